/** A volume.json that changes while its volume is mounted, with the certificates beside it. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { MOUNT_SECRET_FILES, type MountConfig, parseMountConfig } from '../api/mount.ts';
import { WatchedFile, type WatchedFileOptions } from './watched-file.ts';

export interface WatchedConfigOptions extends Pick<WatchedFileOptions, 'clock' | 'random' | 'logger'> {
  /** Path of volume.json. */
  readonly path: string;
  /** Takes a new configuration into use; throws where it cannot be used, and has changed nothing then. */
  readonly accept: (config: MountConfig) => Promise<void>;
}

/** Most databases need none of the files beside. */
function contentBeside(path: string, name: string): string {
  try {
    return readFileSync(join(dirname(path), name), 'utf8');
  } catch {
    return '';
  }
}

function contentOf(path: string): string {
  const beside = Object.values(MOUNT_SECRET_FILES).map((name) => contentBeside(path, name));
  return [readFileSync(path, 'utf8'), ...beside].join('\0');
}

export class WatchedConfig extends WatchedFile {
  /** `volume.json` is as it was read just before, and in use. */
  constructor({ accept, ...options }: WatchedConfigOptions) {
    super({
      ...options,
      read: contentOf,
      async accept(content) {
        const config = parseMountConfig(content.slice(0, content.indexOf('\0')), dirname(options.path));
        await accept(config);
        return config.generation === undefined ? {} : { generation: config.generation };
      },
      messages: {
        taken: 'new credentials are in use',
        refused: 'the new credentials cannot be used, the old ones stay in use',
        restored: 'the credentials are again those in use',
      },
    });
  }
}
