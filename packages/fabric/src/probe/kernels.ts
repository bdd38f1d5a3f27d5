/**
 * In PTX, so that the driver alone can load them: a machine that is probed has no compiler, and
 * both are a loop. `chase` follows addresses, one load at a time, past the first cache; `move`
 * copies 16 bytes a thread and round, with as many threads as a GPU holds.
 */
export const PEER_KERNELS = `.version 7.0
.target sm_80
.address_size 64

.visible .entry chase(.param .u64 start, .param .u32 loads, .param .u64 result)
{
  .reg .pred %more;
  .reg .b32 %left;
  .reg .b64 %at, %out;
  ld.param.u64 %at, [start];
  ld.param.u32 %left, [loads];
  ld.param.u64 %out, [result];
NEXT:
  ld.volatile.global.u64 %at, [%at];
  sub.u32 %left, %left, 1;
  setp.ne.u32 %more, %left, 0;
  @%more bra NEXT;
  st.global.u64 [%out], %at;
  ret;
}

.visible .entry move(.param .u64 target, .param .u64 source, .param .u64 vectors)
{
  .reg .pred %done;
  .reg .b32 %block, %size, %thread, %blocks, %a, %b, %c, %d;
  .reg .b64 %to, %from, %end, %at, %stride, %offset, %read, %write;
  ld.param.u64 %to, [target];
  ld.param.u64 %from, [source];
  ld.param.u64 %end, [vectors];
  mov.u32 %block, %ctaid.x;
  mov.u32 %size, %ntid.x;
  mov.u32 %thread, %tid.x;
  mov.u32 %blocks, %nctaid.x;
  mul.wide.u32 %at, %block, %size;
  cvt.u64.u32 %offset, %thread;
  add.u64 %at, %at, %offset;
  mul.wide.u32 %stride, %blocks, %size;
NEXT:
  setp.ge.u64 %done, %at, %end;
  @%done bra END;
  shl.b64 %offset, %at, 4;
  add.u64 %read, %from, %offset;
  add.u64 %write, %to, %offset;
  ld.global.v4.u32 {%a, %b, %c, %d}, [%read];
  st.global.v4.u32 [%write], {%a, %b, %c, %d};
  add.u64 %at, %at, %stride;
  bra NEXT;
END:
  ret;
}
`;
