/** Uploads in parts through a decorator. */
import type { ObjectStore, Upload } from './store.ts';

/**
 * The members of a decorated store for uploads in parts: none where `store` has none. `begin` and the calls of what it answers
 * are made as `wrap` says; what `wrap` leaves out goes through as it is.
 */
export function uploadsOf(
  store: ObjectStore,
  wrap: (upload: Upload) => Partial<Upload>,
  begin: (start: () => Promise<Upload>, signal?: AbortSignal) => Promise<Upload> = (start) => start(),
): Pick<ObjectStore, 'partLimits' | 'upload'> {
  if (!store.upload) return {};
  return {
    partLimits: store.partLimits,
    async upload(key, signal) {
      const upload = await begin(() => store.upload!(key, signal), signal);
      return {
        part: (number, body, partSignal) => upload.part(number, body, partSignal),
        complete: (completeSignal) => upload.complete(completeSignal),
        abort: () => upload.abort(),
        ...wrap(upload),
      };
    },
  };
}
