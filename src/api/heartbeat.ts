/**
 * Signs of life that the client of a pod leaves in the folder of the holder's socket, for the probes in the pod's spec (and so
 * for the kubelet, which alone can end another container). No imports: the client loads this.
 *
 * The heartbeat is the time since boot as /proc/uptime counts it, in whole seconds, written every `BEAT_SECONDS` by the loop that
 * also serves the mounts. It depends on nothing else: neither on a database or store that is away, nor on the wall clock.
 */

/** The heartbeat. Not there: a client that leaves none, or that ended in order. */
export const HEARTBEAT_FILE = 'alive';
/** Why the client does not serve yet; not there, or empty, while it does. */
export const PROBLEM_FILE = 'problem';
/**
 * There once every mount has been served: written by the first client of the pod, and taken away by a holder that finds nothing mounted
 * (the pod begins again). The client's hook waits for it, so the first client holds the application back and no later one does.
 *
 * No hook and no probe looks into a mount: it runs in the client's container, and where the client is killed before it has answered, the
 * probe waits for the next client, and the end of the container, without which there is no next client, for the probe.
 */
export const SERVED_FILE = 'served';

export const BEAT_SECONDS = 5;
/** A heartbeat older than this is silence. Much more than a busy or throttled client needs for a turn of its loop. */
export const SILENT_SECONDS = 30;
/** So many looks in a row must have found silence: the first one after the machine slept always does. */
export const SILENT_LOOKS = 3;
