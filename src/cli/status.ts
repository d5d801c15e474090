/** `juicepod status`: the volume's settings, what is used, who has it mounted. */
import { formatBytes } from '../lib/units.ts';
import { redacted, serialiseFormat } from '../meta/format.ts';
import type { MetaEngine } from '../meta/engine.ts';
import { openEngine } from '../meta/open.ts';
import { redactUrl } from '../meta/url.ts';
import { type Output, print, table } from './report.ts';
import { COMMAND_PATIENCE_MS, formatOf } from './volume.ts';

interface Session {
  readonly sid: number;
  readonly expire: number;
  readonly HostName?: string;
  readonly MountPoint?: string;
  readonly ProcessID?: number;
  readonly Version?: string;
}

export async function statusCommand(url: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const output = raw['output'] as Output;
  const engine = await openEngine(url, { existing: true, readOnly: true, patience: COMMAND_PATIENCE_MS });
  try {
    await show(engine, url, output);
  } finally {
    await engine.close();
  }
}

async function show(engine: MetaEngine, url: string, output: Output): Promise<void> {
  const format = redacted(await formatOf(engine, url));
  const [bytes, inodes] = await engine.read([
    { kind: 'counter', name: 'usedSpace' },
    { kind: 'counter', name: 'totalInodes' },
  ]);
  const sessions = (await engine.sessions()).map(({ sid, expire, info }): Session => ({
    ...(info ? (JSON.parse(info) as object) : {}),
    sid,
    expire,
  }));
  const now = Date.now() / 1000;
  const lines = sessions.map((session) => {
    const { sid, HostName = '?', MountPoint = '?', ProcessID = '?', Version = '?', expire } = session;
    return `  ${String(sid).padEnd(6)} ${HostName}:${MountPoint}  pid ${ProcessID}, ${Version}${expire < now ? ', expired' : ''}\n`;
  });
  print(
    output,
    {
      Setting: JSON.parse(serialiseFormat(format)) as unknown,
      Sessions: sessions.map(({ sid, expire, ...rest }) => ({
        Sid: sid,
        Expire: new Date(expire * 1000).toISOString(),
        ...rest,
      })),
      Statistic: { UsedSpace: bytes, UsedInodes: inodes },
    },
    `${table([
      ['volume', format.name],
      ['uuid', format.uuid],
      ['metadata', redactUrl(url)],
      ['objects', `${format.storage} ${format.bucket}`],
      ...(format.encryptKey === '' ? [] : [['encrypted', format.encryptAlgo || 'aes256gcm-rsa'] as const]),
      ['used', `${formatBytes(bytes)} in ${inodes} files and directories`],
      ['trash', format.trashDays === 0 ? 'off' : `${format.trashDays} day${format.trashDays === 1 ? '' : 's'}`],
    ])}sessions  ${sessions.length === 0 ? 'none' : ''}\n${lines.join('')}`,
  );
}
