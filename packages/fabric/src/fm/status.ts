/** What a status of Fabric Manager means for who requested the change. */
export interface FmStatus {
  /** As NVIDIA's header has it, without `FM_ST_`. */
  readonly name: string;
  /** `again`: may pass by itself. `quarantine`: the board cannot be trusted with another tenant. */
  readonly consequence: 'again' | 'fail' | 'quarantine';
  readonly advice: string;
}

const again = (name: string, advice: string): FmStatus => ({ name, consequence: 'again', advice });
const fail = (name: string, advice: string): FmStatus => ({ name, consequence: 'fail', advice });
const quarantine = (name: string, advice: string): FmStatus => ({
  name,
  consequence: 'quarantine',
  advice,
});

const IN_USE = -7;
const UNINITIALIZED = -4;
const RESOURCE_NOT_IN_USE = -13;

/** Statuses that say that the partition is already as it was to become. */
export const ALREADY_ACTIVE: readonly number[] = [IN_USE];
export const ALREADY_INACTIVE: readonly number[] = [UNINITIALIZED, RESOURCE_NOT_IN_USE];

/** By number, as in `nv_fm_types.h` of NVIDIA/go-nvfm. What to do is inferred from the names. */
export const FM_STATUS: Readonly<Record<number, FmStatus>> = {
  [-1]: fail('BADPARAM', 'a parameter is out of range: is the partition in its table?'),
  [-2]: quarantine('GENERIC_ERROR', 'read Fabric Manager’s own log, then restart the host'),
  [-3]: fail('NOT_SUPPORTED', 'it does not run in shared mode: set FABRIC_MODE=1'),
  [UNINITIALIZED]: fail('UNINITIALIZED', 'the library is not open, or the partition not active'),
  [-5]: again('TIMEOUT', 'what was requested may have happened: read the partitions'),
  [-6]: fail('VERSION_MISMATCH', 'install libnvfm and Fabric Manager of one version'),
  [IN_USE]: fail('IN_USE', 'the partition is active already'),
  [-8]: again('NOT_CONFIGURED', 'it is still starting; where that lasts, set FABRIC_MODE=1'),
  [-9]: again('CONNECTION_NOT_VALID', 'it restarted meanwhile: connect anew'),
  [-10]: fail('NVLINK_ERROR', 'links did not train: reset the GPUs of the partition'),
  [-11]: fail('RESOURCE_BAD', 'a GPU or switch of the partition is degraded'),
  [-12]: fail('RESOURCE_IN_USE', 'a GPU of the partition is in use'),
  [RESOURCE_NOT_IN_USE]: fail('RESOURCE_NOT_IN_USE', 'the partition is inactive already'),
  [-14]: fail('RESOURCE_EXHAUSTED', 'no multicast groups are left: deactivate another partition'),
  [-15]: again('RESOURCE_NOT_READY', 'GPUs are still being initialised'),
  [-16]: fail('PARTITION_EXISTS', 'a partition with these GPUs exists'),
  [-17]: fail('PARTITION_ID_IN_USE', 'choose another id'),
  [-18]: fail('PARTITION_ID_NOT_IN_USE', 'no partition has this id: read the partitions'),
  [-19]: fail('PARTITION_NAME_IN_USE', 'choose another name'),
  [-20]: fail('PARTITION_NAME_NOT_IN_USE', 'no partition has this name: read the partitions'),
  [-21]: fail('PARTITION_ID_NAME_MISMATCH', 'id and name are of two partitions'),
  [-22]: again('NOT_READY', 'it has started and does not serve yet'),
  [-23]: fail('RESOURCE_USED_IN_THIS_PARTITION', 'the GPU is in the partition already'),
  [-24]: fail('RESOURCE_USED_IN_ANOTHER_PARTITION', 'deactivate the partition that has the GPU'),
  [-25]: fail('MISWIRED_TRUNKS', 'cables between switches are wrong'),
  [-26]: fail('INSUFFICIENT_TRUNKS', 'cables between switches are missing or down'),
  [-27]: fail('MISSING_SWITCHES', 'switches are missing: are they bound to another driver?'),
  [-28]: fail('NETWORK_CONFIG_ERROR', 'its network configuration is wrong'),
  [-29]: quarantine('ROUTE_PROGRAMMING_ERROR', 'routes are half written: restart the host'),
};
