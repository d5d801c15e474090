/**
 * Metrics of each volume. There may be very many, so their values are made when they are asked for and not kept: what
 * prom-client keeps of a labelled value is as large as the volume itself.
 */
import { Gauge, type Registry } from 'prom-client';
import type { JuiceVolume } from '../../api/volume.ts';
import { findCondition } from '../../kube/conditions.ts';

const labelNames = ['namespace', 'name'] as const;
type Label = (typeof labelNames)[number];

class VolumeGauge extends Gauge<Label> {
  readonly #about: { readonly name: string; readonly help: string };
  readonly #volumes: () => Iterable<JuiceVolume>;
  readonly #value: (volume: JuiceVolume) => number | undefined;

  constructor(
    about: { readonly name: string; readonly help: string; readonly registry: Registry },
    volumes: () => Iterable<JuiceVolume>,
    value: (volume: JuiceVolume) => number | undefined,
  ) {
    super({ name: about.name, help: about.help, labelNames, registers: [about.registry] });
    this.#about = about;
    this.#volumes = volumes;
    this.#value = value;
  }

  override async get(): ReturnType<Gauge<Label>['get']> {
    const empty = await super.get();
    const values: (typeof empty.values)[number][] = [];
    for (const volume of this.#volumes()) {
      const value = this.#value(volume);
      const { namespace = '', name } = volume.metadata;
      if (value !== undefined) values.push({ value, labels: { namespace, name } });
    }
    return { ...empty, name: this.#about.name, help: this.#about.help, values };
  }
}

/** Adds the gauges to a registry. */
export function volumeMetrics(registry: Registry, volumes: () => Iterable<JuiceVolume>): void {
  const gauge = (name: string, help: string, value: (volume: JuiceVolume) => number | undefined): void =>
    void new VolumeGauge({ name, help, registry }, volumes, value);
  gauge('juicepod_volume_ready', '1 where the condition Ready is True', (volume) =>
    Number(findCondition(volume.status?.conditions, 'Ready')?.status === 'True'),
  );
  gauge('juicepod_volume_used_bytes', 'Bytes in the volume', (volume) => volume.status?.usage?.bytes);
  gauge('juicepod_volume_used_inodes', 'Inodes in the volume', (volume) => volume.status?.usage?.inodes);
  gauge('juicepod_volume_sessions', 'Clients that have the volume mounted', (volume) => volume.status?.sessions?.active);
}
