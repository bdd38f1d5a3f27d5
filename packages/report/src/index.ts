export type { Axis } from './chart/axes.ts';
export { drawBars } from './chart/bar-chart.ts';
export { type PlotSpec, plotRuns } from './chart/runs-chart.ts';
export { drawStacks } from './chart/stack-chart.ts';
export { drawTimeline, type Track } from './chart/timeline-chart.ts';
export { type ChartSpec, drawChart, type Series } from './chart/xy-chart.ts';
export { escapeXml } from './escape-xml.ts';
export {
  answers,
  caveat,
  commandText,
  figures,
  folded,
  htmlTable,
  page,
  paragraph,
  section,
  wideFigure,
} from './page.ts';
export { peakResidentBytes, residentBytes } from './resident-memory.ts';
export {
  type MeasuredDevice,
  type MeasuredRun,
  type ResultContext,
  type ResultDocument,
  resultDocument,
} from './result.ts';
export { type Distribution, distributionOf, quantile, summarise } from './statistics.ts';
export { columns, tableOf } from './table.ts';
export { decimalSize, duration, rate, size, threeDigits } from './units.ts';
