/** Every error that a caller can cause, with a message that says what happened, why, and what mends it. */

export class EdgeRecError extends Error {
  override name = "EdgeRecError";
  constructor(message: string) {
    super(shown(message));
  }
}

/** One line, that names what came from anywhere: without what a terminal obeys, and the middle of a long one left out. */
const shown = (text: string) =>
  (text.length > 2000 ? `${text.slice(0, 1500)} ... ${text.slice(-500)}` : text).replace(
    /[\0-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

/** A bundle that is missing, incomplete, damaged, altered, or newer than this reader. Messages name the file. */
export class BundleError extends EdgeRecError {
  override name = "BundleError";
}

/** A bundle that no trusted key signed as it is. */
export class SignatureError extends BundleError {
  override name = "SignatureError";
}

/** A question that a bundle cannot answer: an unknown user or item, a k outside the catalogue. */
export class RequestError extends EdgeRecError {
  override name = "RequestError";
}

/** A patch that is damaged, too new, or made for another bundle; nothing was changed. */
export class PatchError extends EdgeRecError {
  override name = "PatchError";
}

/** What this place should offer is not there: onnxruntime, cryptography, room for a history. */
export class MissingError extends EdgeRecError {
  override name = "MissingError";
}

export const firstLine = (error: unknown) => String((error as Error)?.message ?? error).split("\n")[0]!;
