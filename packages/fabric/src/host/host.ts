/** What NVML says of a GPU's part in the fabric; readable while NVIDIA's driver has the GPU. */
export interface ObservedFabric {
  readonly state: 'unsupported' | 'not-started' | 'in-progress' | 'completed';
  /** NVML's status of the registration: 0 is success. */
  readonly status: number;
  /** Null: no verdict. An `unhealthy` one says why in words. */
  readonly unhealthy: readonly string[];
  readonly isPartitionAssigned: boolean | null;
}

/** What NVML says of the encryption of a GPU's NVLink. */
export interface ObservedEncryption {
  /** Null: the driver does not tell. */
  readonly isOn: boolean | null;
  /** Whether this driver has the calls by which a guest keys its GPUs' links itself. */
  readonly takesKeys: boolean;
}

/** A GPU as its host sees it now. Most of it cannot be seen once the GPU is bound for a guest. */
export interface ObservedGpu {
  /** PCI address, `0000:1b:00.0`. */
  readonly bdf: string;
  readonly driver: 'nvidia' | 'vfio-pci' | 'other' | null;
  /** First word of its config space; all ones: it does not answer, and nothing it says counts. */
  readonly configWord: number;
  /** Its place on the board; null unless NVIDIA's driver has it. */
  readonly moduleId: number | null;
  /** The device's permanent identity (PDI), 16 hex digits; null unless NVIDIA's driver has it. */
  readonly identity: string | null;
  readonly fabric: ObservedFabric | null;
  /** Null unless NVIDIA's driver has it. */
  readonly encryption: ObservedEncryption | null;
  /** Which processes have it open. */
  readonly holders: readonly number[];
  /** PCI functions that a secondary bus reset of it resets besides, outside its IOMMU group. */
  readonly resetReaches: readonly string[];
}

export interface ObservedVm {
  readonly id: string;
  readonly state: 'starting' | 'running' | 'stopped';
  readonly bdfs: readonly string[];
  readonly pid: number | null;
}

export interface ObservedDaemon {
  readonly isRunning: boolean;
  /** Differs from every earlier start's, such as process id and start time; null: not running. */
  readonly instance: string | null;
  /** Whether it could be started to resume: it left its state in this boot. */
  readonly hasState: boolean;
}

export interface HostObservation {
  /** The kernel's; another one: nothing of before is running. */
  readonly bootId: string;
  /** Of the driver that the guests have too, such as `590.48.01`; null: not loaded. */
  readonly driverVersion: string | null;
  readonly daemon: ObservedDaemon;
  readonly gpus: readonly ObservedGpu[];
  readonly vms: readonly ObservedVm[];
  /** Faults that the kernel logged in this boot, each once, in order. */
  readonly faults: readonly ObservedFault[];
}

export interface ObservedFault {
  /** Ascending within a boot, so that none is judged twice. */
  readonly sequence: number;
  readonly kind: 'xid' | 'sxid' | 'off-the-bus';
  readonly number: number;
  readonly bdf: string;
}

/** Looks, and changes nothing. Bounded; throws FabricError 'host-unreadable'. */
export interface HostProbe {
  observe(): Promise<HostObservation>;
}
