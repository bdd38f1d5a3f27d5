export { writeModelFolder } from '../selftest/model-folder.ts';
