import { beforeAll, describe, expect, test } from 'vitest';
import {
  type IntelAuthority,
  makeEnclaveLevel,
  makeIntelAuthority,
  makeTcbLevel,
} from '../testing/quote-authority.ts';
import { appraiseTdxCase, faultsOf, type TdxCase } from '../testing/tdx-appraisal.ts';

let authority: IntelAuthority;
beforeAll(async () => {
  authority = await makeIntelAuthority();
});

const appraise = (wanted: TdxCase, by = authority) => appraiseTdxCase(authority, wanted, by);

const GOOD_MODULE = {
  mrsigner: '00'.repeat(48),
  attributes: '00'.repeat(8),
  attributesMask: 'ff'.repeat(8),
};

describe('the TCB status', () => {
  const level = makeTcbLevel;
  const oldModule = { quote: { teeTcbSvn: `030102${'00'.repeat(13)}` } };
  const cases: [string, TdxCase, string][] = [
    [
      'follows the platform',
      { collateral: { tcbInfo: { tcbLevels: [level('SWHardeningNeeded')] } } },
      'SWHardeningNeeded',
    ],
    ['follows the TDX module', oldModule, 'OutOfDate'],
    [
      'follows the quoting enclave',
      {
        quote: { qeSvn: 3 },
        collateral: { qeIdentity: { tcbLevels: [makeEnclaveLevel(1, 'Revoked')] } },
      },
      'Revoked',
    ],
    [
      'keeps both wishes of an old module on a platform to configure',
      { ...oldModule, collateral: { tcbInfo: { tcbLevels: [level('ConfigurationNeeded')] } } },
      'OutOfDateConfigurationNeeded',
    ],
    [
      'follows the configuration of a platform whose module is up to date',
      { collateral: { tcbInfo: { tcbLevels: [level('ConfigurationNeeded')] } } },
      'ConfigurationNeeded',
    ],
    [
      'takes no level of which one component is newer',
      {
        collateral: {
          tcbInfo: {
            tcbLevels: [
              level('UpToDate', { sgx: [4, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0] }),
              level('OutOfDate'),
            ],
          },
        },
      },
      'OutOfDate',
    ],
    [
      'follows the whole platform where the TDX module has no identity of its own',
      { quote: { teeTcbSvn: `040002${'00'.repeat(13)}` } },
      'OutOfDate',
    ],
    [
      'takes the first level that all components meet',
      {
        collateral: {
          tcbInfo: {
            tcbLevels: [
              level('UpToDate', { tdx: [0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }),
              level('OutOfDate', {}, ['INTEL-SA-00001']),
            ],
          },
        },
      },
      'OutOfDate',
    ],
  ];
  test.each(cases)('%s, and all but UpToDate is refused', async (_, wanted, status) => {
    const tcb = (await appraise(wanted)).get('cpu.tcb');
    expect(tcb?.value).toBe(status);
    expect(tcb?.code).toBe('tcb-refused');
  });

  test('is up to date with the TDX module that Intel names', async () => {
    const status = async (teeTcbSvn: string, tcbInfo: Record<string, unknown> = {}) => {
      const quote = { teeTcbSvn: teeTcbSvn + '00'.repeat(13) };
      return faultsOf(await appraise({ quote, collateral: { tcbInfo } }))['cpu.tcb'] ?? 'UpToDate';
    };
    expect(await status('050102')).toBe('UpToDate');
    // The first two numbers are the module's own where it has an identity.
    expect(await status('040102')).toBe('UpToDate');
    expect(await status('050002')).toBe('UpToDate');
    const wrong = { mrsigner: '11'.repeat(48), attributes: '00'.repeat(8) };
    expect(await status('050102', { tdxModule: { ...GOOD_MODULE, ...wrong } })).toBe('UpToDate');
    const named = (id: string, change = {}) => ({
      tdxModuleIdentities: [
        { id, ...GOOD_MODULE, tcbLevels: [makeEnclaveLevel(4, 'UpToDate')], ...change },
      ],
    });
    expect(await status('051a02', named('TDX_1A'))).toBe('UpToDate');
    expect(await status('051a02', named('TDX_1a'))).toBe('identity-mismatch');
    expect(await status('050002', named('TDX_00', wrong))).toBe('UpToDate');
    expect(await status('050102', named('TDX_01', wrong))).toBe('identity-mismatch');
  });

  test('comes with its advisories', async () => {
    const tcbLevels = [level('OutOfDate', {}, ['INTEL-SA-00001', 'INTEL-SA-00002'])];
    const claims = await appraise({ collateral: { tcbInfo: { tcbLevels } } });
    expect(claims.get('cpu.advisories')?.value).toEqual(['INTEL-SA-00001', 'INTEL-SA-00002']);
  });
});
