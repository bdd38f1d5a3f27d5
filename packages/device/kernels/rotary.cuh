#pragma once

// Which dims of a head turn together. Of HEAD_DIM the first ROTARY_DIM rotate, in pairs half of
// these apart; the rest is paired likewise, by angles of zero.

#ifndef ROTARY_DIM
#define ROTARY_DIM HEAD_DIM
#endif

/** The first of pair `pair`, and the second, of HEAD_DIM / 2. */
__device__ inline int lowAt(int pair) {
  return pair < ROTARY_DIM / 2 ? pair : pair + ROTARY_DIM / 2;
}
__device__ inline int highAt(int pair) {
  return pair < ROTARY_DIM / 2 ? pair + ROTARY_DIM / 2 : pair + HEAD_DIM / 2;
}
