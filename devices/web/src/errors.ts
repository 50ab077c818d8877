/** Errors that a caller can cause; each message says what happened, why, and how to fix it. */

export class EdgeRecError extends Error {
  override name = "EdgeRecError";
  constructor(message: string) {
    super(shown(message));
  }
}

/** Make one printable line of a message that may quote untrusted text: escape control characters, shorten long text. */
const shown = (text: string) =>
  (text.length > 2000 ? `${text.slice(0, 1500)} ... ${text.slice(-500)}` : text).replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (letter) => `\\u${letter.codePointAt(0)!.toString(16).padStart(4, "0")}`,
  );

/** A bundle that is missing, incomplete, damaged, altered, or newer than this reader. Messages name the file. */
export class BundleError extends EdgeRecError {
  override name = "BundleError";
}

/** A bundle without a valid signature of a trusted key. */
export class SignatureError extends BundleError {
  override name = "SignatureError";
}

/** A question that a bundle cannot answer: an unknown user or item, a k outside the catalogue. */
export class RequestError extends EdgeRecError {
  override name = "RequestError";
}

/** A patch that is damaged, too new, or for another bundle; nothing was changed. */
export class PatchError extends EdgeRecError {
  override name = "PatchError";
}

/** Something that the platform should provide is missing: onnxruntime, cryptography, storage for a history. */
export class MissingError extends EdgeRecError {
  override name = "MissingError";
}

export const firstLine = (error: unknown) => String((error as Error)?.message ?? error).split("\n")[0]!;

/** Refuse an invalid answer of a bundle. */
export function demandSound(sound: boolean): void {
  if (!sound) {
    throw new BundleError("the bundle answers with what no bundle does; export it again");
  }
}

/** Return the values of an answer. @throws BundleError if there are not `count` of them, all finite. */
export function finite(values: Float32Array, count: number): Float32Array {
  demandSound(values.length === count && values.every(Number.isFinite));
  return values;
}
