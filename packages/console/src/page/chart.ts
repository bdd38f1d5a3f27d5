/// <reference lib="dom" />
import { createEffect, onCleanup } from 'solid-js';
import uPlot from 'uplot';

const HEIGHT = 64;

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
    const axis = { stroke: soft, grid: { show: false }, ticks: { show: false }, size: 34 };
    plot = new uPlot(
      {
        width: host.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: false }, y: { range: (_, __, max) => [0, Math.max(1, max)] } },
        axes: [{ show: false }, { ...axis, splits: (_, __, ___, max) => [0, max] }],
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
  onCleanup(() => plot?.destroy());
  return host;
}
