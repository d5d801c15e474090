/**
 * OCI image archives written without Docker: a tar of `oci-layout`, `index.json` and `blobs/sha256/*`, as
 * https://github.com/opencontainers/image-spec (image-layout.md, manifest.md, config.md) has it, with
 * `io.containerd.image.name` as containerd's import reads it. Layers are plain tars, so a layer's own digest is also its
 * diff_id. Files belong to root and carry the time 0: the same contents give the same digests.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, linkSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface Layer {
  readonly file: string;
  /** sha256 in hexadecimal. */
  readonly digest: string;
  readonly size: number;
}

export interface ImageConfig {
  /** With a registry part (`localhost/x:1`), or pods cannot name it. */
  readonly name: string;
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly environment?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
}

const reproducible = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--format=gnu'];

async function digestOf(file: string): Promise<string> {
  const digest = createHash('sha256');
  for await (const data of createReadStream(file)) digest.update(data as Buffer);
  return digest.digest('hex');
}

/** Packs the contents of `root` into the layer `file`. */
export async function packLayer(root: string, file: string): Promise<Layer> {
  execFileSync('tar', [...reproducible, '-C', root, '-cf', file, '.'], { stdio: 'pipe' });
  return { file, digest: await digestOf(file), size: statSync(file).size };
}

/** Writes one archive with an image for each of `images`, all made of the same layers; replaces `archive` at once. */
export function writeArchive(archive: string, layers: readonly Layer[], images: readonly ImageConfig[]): void {
  mkdirSync(dirname(archive), { recursive: true });
  const folder = mkdtempSync(`${archive}.`);
  try {
    const blobs = join(folder, 'blobs', 'sha256');
    mkdirSync(blobs, { recursive: true });
    const blob = (value: unknown): { digest: string; size: number } => {
      const bytes = Buffer.from(JSON.stringify(value));
      const digest = createHash('sha256').update(bytes).digest('hex');
      writeFileSync(join(blobs, digest), bytes);
      return { digest: `sha256:${digest}`, size: bytes.length };
    };
    for (const layer of layers) linkSync(layer.file, join(blobs, layer.digest));
    const manifests = images.map((image) => {
      const config = blob({
        architecture: process.arch === 'x64' ? 'amd64' : process.arch,
        os: 'linux',
        config: {
          Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...(image.environment ?? [])],
          ...(image.entrypoint && { Entrypoint: image.entrypoint }),
          ...(image.command && { Cmd: image.command }),
          ...(image.labels && { Labels: image.labels }),
        },
        rootfs: { type: 'layers', diff_ids: layers.map((layer) => `sha256:${layer.digest}`) },
      });
      const manifest = blob({
        schemaVersion: 2,
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
        layers: layers.map((layer) => ({
          mediaType: 'application/vnd.oci.image.layer.v1.tar',
          digest: `sha256:${layer.digest}`,
          size: layer.size,
        })),
      });
      return {
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        ...manifest,
        annotations: { 'io.containerd.image.name': image.name, 'org.opencontainers.image.ref.name': image.name },
      };
    });
    writeFileSync(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
    writeFileSync(join(folder, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
    const temporary = `${folder}.tar`;
    execFileSync('tar', [...reproducible, '-C', folder, '-cf', temporary, 'oci-layout', 'index.json', 'blobs'], {
      stdio: 'pipe',
    });
    renameSync(temporary, archive);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
