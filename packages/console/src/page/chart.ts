/// <reference lib="dom" />
import { createEffect, onCleanup } from 'solid-js';
import uPlot from 'uplot';

const HEIGHT = 64;
/** Room for what `numberText` writes. */
const AXIS_WIDTH = 46;

/** Short enough for an axis: 7.8, 123, 12.3k. */
function numberText(value: number): string {
  const [size, unit] = value >= 1e6 ? [1e6, 'M'] : value >= 1e4 ? [1e3, 'k'] : [1, ''];
  return `${Number((value / size).toPrecision(3))}${unit}`;
}

/** A small line over time, drawn anew when its numbers change. */
export function lineChart(times: () => number[], values: () => number[]): HTMLElement {
  const host = document.createElement('div');
  host.className = 'chart';
  const colour = (name: string) => {
    host.style.color = `var(--${name})`;
    return getComputedStyle(host).color;
  };
  let plot: uPlot | undefined;
  const make = () => {
    if (plot !== undefined || !host.isConnected) return;
    const soft = colour('soft');
    const axis = { stroke: soft, grid: { show: false }, ticks: { show: false }, size: AXIS_WIDTH };
    plot = new uPlot(
      {
        width: host.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: false }, y: { range: (_, __, max) => [0, Math.max(1, max)] } },
        axes: [
          { show: false },
          {
            ...axis,
            splits: (_, __, ___, max) => [0, max],
            values: (_, splits) => splits.map((value) => numberText(value)),
          },
        ],
        series: [{}, { stroke: colour('accent'), width: 1.5, points: { show: false } }],
      },
      [times(), values()],
      host,
    );
  };
  createEffect(() => {
    const data: uPlot.AlignedData = [times(), values()];
    make();
    plot?.setData(data);
  });
  // Its colours are read when it is made.
  const scheme = matchMedia('(prefers-color-scheme: dark)');
  const change = () => {
    plot?.destroy();
    plot = undefined;
    make();
  };
  scheme.addEventListener('change', change);
  onCleanup(() => {
    scheme.removeEventListener('change', change);
    plot?.destroy();
  });
  return host;
}
