#pragma once
#include "common.cuh"

/** What both prefill kernels are told of a batch: tileParameters of attention-prefill.ts. */
struct PrefillShape {
  KvPages pages;
  int tableRows;
  int count;
  int heads;
  /** Query heads that share a KV head. */
  int group;
  int window;
  /** scale * log2(e) */
  float scale;
};
