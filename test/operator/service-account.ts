/** The operator's ServiceAccount on an API server of the tests, as a client certificate. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ApiServer } from '../cluster/api-server.ts';

/** Writes a kubeconfig of the operator's ServiceAccount; answers its path. */
export function operatorKubeconfig(server: ApiServer): string {
  const openssl = (...args: readonly string[]): void => void execFileSync('openssl', args, { cwd: server.folder, stdio: 'pipe' });
  const subject = '/O=system:serviceaccounts/CN=system:serviceaccount:juicepod-system:juicepod-operator';
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-keyout', 'operator.key'];
  openssl('req', '-x509', ...key, '-out', 'operator.crt', '-subj', subject, '-CA', 'ca.crt', '-CAkey', 'ca.key');
  const path = join(server.folder, 'operator.kubeconfig');
  const at = (name: string): string => JSON.stringify(join(server.folder, name));
  writeFileSync(
    path,
    `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "${server.url}", certificate-authority: ${at('ca.crt')}}}]
users: [{name: u, user: {client-certificate: ${at('operator.crt')}, client-key: ${at('operator.key')}}}]
contexts: [{name: c, context: {cluster: c, user: u, namespace: juicepod-system}}]
current-context: c
`,
  );
  return path;
}
