export { SETTINGS, type Settings } from './settings/table.ts';
