/** The backups of the metadata that a mount makes, in the rhythm that is asked for at the moment; volume.json may ask for another while it runs. */
import { type BackupOptions, Backups } from '../meta/dump/backup.ts';
import type { MountConfig } from '../api/mount.ts';
import type { Random } from '../lib/random.ts';

export interface BackupRhythm {
  readonly intervalMs: number;
  readonly skipTrash: boolean;
}

/** What volume.json asks for, as an option of a volume. */
export function backupOf({ backup }: MountConfig): { readonly backup?: BackupRhythm } {
  if (!backup) return {};
  return { backup: { intervalMs: backup.interval * 1000, skipTrash: backup.skipTrash ?? false } };
}

export type MountBackupsOptions = Pick<BackupOptions, 'engine' | 'store' | 'clock' | 'logger'> & { readonly random: Random };

export class MountBackups {
  readonly #options: MountBackupsOptions;
  #rhythm: BackupRhythm | undefined;
  #backups: Backups | undefined;
  #closed = false;

  constructor(options: MountBackupsOptions, rhythm: BackupRhythm | undefined) {
    this.#options = options;
    this.follow(rhythm);
  }

  /** Goes on in another rhythm; undefined for none. One that is under way is given up where the rhythm is another. */
  follow(rhythm: BackupRhythm | undefined): void {
    const { intervalMs, skipTrash } = this.#rhythm ?? {};
    if (this.#closed || (rhythm?.intervalMs === intervalMs && rhythm?.skipTrash === skipTrash)) return;
    this.#rhythm = rhythm;
    // It ends by itself, and what it claimed is given back.
    void this.#backups?.close();
    this.#backups = rhythm && new Backups({ ...this.#options, interval: rhythm.intervalMs, skipTrash: rhythm.skipTrash });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#backups?.close();
  }
}
