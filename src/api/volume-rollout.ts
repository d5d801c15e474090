/** How a new image of the client, and new options, reach pods that run already: the wish (`spec.client.rollout`) and how far it is (`status.rollout`). */
import { z } from 'zod';
import { choice, declare, duration, object, text } from './schema.ts';

/** Pods named in the status. */
export const MOST_NAMED = 16;

export const rolloutSpec = object(
  'How a changed image of the client, or changed options (cache policy, log level), reach pods that run already.',
  {
    strategy: choice(
      'OnNewPods: pods keep the image and the options they began with. PodByPod: the operator changes those of the client in running pods, whose programs see a pause while the client is restarted, and no error.',
      ['OnNewPods', 'PodByPod'],
    ).default('OnNewPods'),
    maxUnavailable: declare(z.int().min(1).max(1000), 'How many clients may be restarting at the same time.').default(1),
    timeout: duration(
      'How long a restarted client may take until it serves every mount of its pod again. After that its pod gets the former ones back, and the roll-out stops.',
      '1h',
    ).default('5m'),
    paused: z.boolean().describe('No further pod is begun with.').default(false),
  },
);

export const rolloutStatus = object('How far a new image of the client, or new options, have come, with strategy PodByPod.', {
  state: choice(
    'Complete, Progressing, Paused, Failed (stopped at a pod that did not come back), or Blocked (nothing can be done).',
    ['Complete', 'Progressing', 'Paused', 'Failed', 'Blocked'],
  ),
  image: text('The image that the clients shall have.', { max: 512 }).optional(),
  options: text('Names the options that the clients shall have (cache policies, log levels).', { max: 64 }).optional(),
  total: z.int().min(0).describe('Running pods whose client this volume decides about.'),
  updated: z.int().min(0).describe('Those whose client has the image and the options, and serves.'),
  failed: z
    .array(text('namespace/name', { max: 512 }))
    .max(MOST_NAMED)
    .meta({
      description: 'Pods whose client did not come back; they have the former image and options again.',
      'x-kubernetes-list-type': 'atomic',
    }),
  message: text('What is going on, for people.', { max: 4096 }),
});
