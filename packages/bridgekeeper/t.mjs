const name = process.argv[2];
const t = performance.now();
await import(name);
console.log(name, (performance.now() - t).toFixed(0), 'ms');
