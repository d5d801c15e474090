/** What every object of Kubernetes has, as far as this project reads it; and the schema of conditions. */
import { z } from 'zod';
import type { Condition } from './conditions.ts';
import { object, text } from './schema.ts';

export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
}

export interface CustomResource<Kind extends string, Spec, Status> {
  readonly apiVersion: string;
  readonly kind: Kind;
  readonly metadata: ObjectMeta;
  readonly spec: Spec;
  readonly status?: Status;
}

/** A status as zod yields it, with conditions as the rest of the project knows them. */
export type WithConditions<Status> = Omit<Status, 'conditions'> & { readonly conditions?: readonly Condition[] };

/** A label selector as in a Deployment. */
export const labelSelector = (description: string) =>
  object(
    description,
    {
      matchLabels: z
        .record(z.string(), z.string().max(63).describe('The value the label must have.'))
        .describe('Labels that must have exactly these values.')
        .optional(),
      matchExpressions: z
        .array(
          object('One requirement on a label.', {
            key: text('The label.', { min: 1, max: 317 }),
            operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']).describe('How the label relates to the values.'),
            values: z
              .array(z.string().max(63).describe('A value.'))
              .max(64)
              .describe('Values for In and NotIn; empty for the others.')
              .meta({ 'x-kubernetes-list-type': 'atomic' })
              .optional(),
          }),
        )
        .max(16)
        .describe('Requirements that must all hold.')
        .meta({ 'x-kubernetes-list-type': 'atomic' })
        .optional(),
    },
    [],
    { 'x-kubernetes-map-type': 'atomic' },
  );

export const conditionsSchema = (types: string) =>
  z
    .array(
      object('One aspect of the state of the object.', {
        type: text('The aspect.', { min: 1, max: 316 }),
        status: z.enum(['True', 'False', 'Unknown']).describe('Whether it holds.'),
        observedGeneration: z.int().min(0).describe('The metadata.generation this was decided on.').optional(),
        lastTransitionTime: z.string().meta({ format: 'date-time', description: 'When the status last changed.' }),
        reason: text('Why, as one word for programs.', {
          min: 1,
          max: 1024,
          pattern: '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$',
        }),
        message: text('Why, as a sentence for people.', { max: 32768 }),
      }),
    )
    .max(32)
    .meta({ description: types, 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['type'] });
