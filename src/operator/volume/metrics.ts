/**
 * Metrics of each volume, in Prometheus' text format. There may be very many, so neither their values are kept (what prom-client
 * keeps of a labelled value is as large as the volume itself) nor their text is made at once (with 10 000 volumes it has 3 MiB, and
 * making it left 40 MiB of garbage): it comes in pieces, as it is read. Names are DNS names: nothing in them is escaped.
 */
import type { JuiceVolume } from '../../api/volume.ts';
import { findCondition } from '../../kube/conditions.ts';

/** Characters; the last line may go beyond. */
const PIECE = 16 << 10;

interface VolumeGauge {
  readonly name: string;
  readonly help: string;
  readonly value: (volume: JuiceVolume) => number | undefined;
}

const gauges: readonly VolumeGauge[] = [
  {
    name: 'juicepod_volume_ready',
    help: '1 where the condition Ready is True',
    value: ({ status }) => Number(findCondition(status?.conditions, 'Ready')?.status === 'True'),
  },
  { name: 'juicepod_volume_used_bytes', help: 'Bytes in the volume', value: ({ status }) => status?.usage?.bytes },
  { name: 'juicepod_volume_used_inodes', help: 'Inodes in the volume', value: ({ status }) => status?.usage?.inodes },
  {
    name: 'juicepod_volume_sessions',
    help: 'Clients that have the volume mounted',
    value: ({ status }) => status?.sessions?.active,
  },
];

/** The values of now, gauge by gauge. `volumes` is gone through once for each. */
export function* volumeMetrics(volumes: () => Iterable<JuiceVolume>): Generator<string, void, undefined> {
  for (const { name, help, value } of gauges) {
    let piece = `# HELP ${name} ${help}\n# TYPE ${name} gauge\n`;
    for (const volume of volumes()) {
      const found = value(volume);
      if (found === undefined) continue;
      const { namespace = '', name: of } = volume.metadata;
      piece += `${name}{namespace="${namespace}",name="${of}"} ${found}\n`;
      if (piece.length < PIECE) continue;
      yield piece;
      piece = '';
    }
    if (piece !== '') yield piece;
  }
}
