package org.edgerec;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.X509EncodedKeySpec;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Signatures of bundles: ed25519 over the manifest's bytes, specified in docs/reference/bundle.md. */
final class Signatures {
    private static final Pattern SIGNATURE =
            Pattern.compile(",\"signature\":\\{\"key\":\"([0-9a-f]{64})\",\"value\":\"([0-9a-f]{128})\"\\}\\}\n");
    private static final int SIGNATURE_BYTES = 228;
    private static final Pattern PEM = Pattern.compile("KEY-----([\\s\\w+/=]+)-----END");
    private static final String BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    /** The bytes before the 32 bytes of an ed25519 key in a SubjectPublicKeyInfo. */
    private static final byte[] HEAD = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};

    private Signatures() {}

    /**
     * Check a manifest's signature.
     *
     * @param trusted raw public keys.
     * @throws SignatureException none of the keys signed the document in this form.
     * @throws MissingException the device has no ed25519.
     */
    static void check(byte[] document, List<byte[]> trusted) {
        int start = Math.max(0, document.length - SIGNATURE_BYTES);
        String end = new String(document, start, document.length - start, StandardCharsets.ISO_8859_1);
        Matcher signature = SIGNATURE.matcher(end);
        if (!signature.matches()) {
            throw refused("is not signed, and only bundles of trusted keys are wanted; export it with --sign KEY");
        }
        for (byte[] raw : trusted) {
            if (sha256(raw).equals(signature.group(1))) {
                if (signed(raw, Arrays.copyOf(document, start), bytes(signature.group(2)))) {
                    return;
                }
                throw refused(
                        "was altered after it was signed with the key " + signature.group(1)
                        + "; get the bundle again");
            }
        }
        throw refused("is signed with the key " + signature.group(1) + ", which is none of the " + trusted.size()
                + " trusted; get the bundle from whom you trust");
    }

    /** Refuse a bundle with a smaller rollback index than the app asks for. */
    static void checkIndex(Manifest manifest, Options options) {
        if (manifest.rollbackIndex < options.minRollbackIndex) {
            throw refused("has the rollback index " + manifest.rollbackIndex + ", and at least "
                    + options.minRollbackIndex + " is wanted; get a newer bundle");
        }
    }

    private static SignatureException refused(String why) {
        return new SignatureException(Manifest.NAME + " " + why);
    }

    private static boolean signed(byte[] raw, byte[] document, byte[] value) {
        byte[] encoded = Arrays.copyOf(HEAD, HEAD.length + raw.length);
        System.arraycopy(raw, 0, encoded, HEAD.length, raw.length);
        Signature verifier;
        PublicKey key;
        try {
            key = KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(encoded));
            verifier = Signature.getInstance("Ed25519");
        } catch (GeneralSecurityException error) {
            throw new MissingException("this device has no ed25519 to check signatures with; install a provider of "
                    + "java.security that has it, or trust no keys", error);
        }
        try {
            verifier.initVerify(key);
            verifier.update(document);
            return verifier.verify(value);
        } catch (GeneralSecurityException malformed) {
            return false;
        }
    }

    /** Return the 32 bytes of a public key in PEM. */
    static byte[] rawKey(String pem) {
        Matcher body = PEM.matcher(pem);
        byte[] der = body.find() ? base64(body.group(1)) : new byte[0];
        if (der.length != HEAD.length + 32 || !Arrays.equals(Arrays.copyOf(der, HEAD.length), HEAD)) {
            throw new RequestException(
                    "a trusted key is no ed25519 key; give the text of the .pub file of 'edgerec keys new'");
        }
        return Arrays.copyOfRange(der, HEAD.length, der.length);
    }

    /** Decode Base64; java.util.Base64 is missing before Android 8. */
    private static byte[] base64(String text) {
        byte[] decoded = new byte[text.length() * 3 / 4];
        int length = 0;
        int bits = 0;
        int count = 0;
        for (char letter : text.toCharArray()) {
            int value = BASE64.indexOf(letter);
            if (value >= 0) {
                bits = bits << 6 | value;
                count += 6;
                if (count >= 8) {
                    count -= 8;
                    decoded[length++] = (byte) (bits >> count);
                }
            }
        }
        return Arrays.copyOf(decoded, length);
    }

    private static byte[] bytes(String hexadecimal) {
        byte[] decoded = new byte[hexadecimal.length() / 2];
        for (int n = 0; n < decoded.length; n++) {
            decoded[n] = (byte) Integer.parseInt(hexadecimal.substring(2 * n, 2 * n + 2), 16);
        }
        return decoded;
    }

    /** Return the hexadecimal sha256. */
    static String sha256(byte[] content) {
        return hexadecimal(digest().digest(content));
    }

    static MessageDigest digest() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new AssertionError(error); // every Java and every Android has it
        }
    }

    static String hexadecimal(byte[] bytes) {
        StringBuilder decoded = new StringBuilder();
        for (byte one : bytes) {
            decoded.append(Character.forDigit(one >> 4 & 15, 16)).append(Character.forDigit(one & 15, 16));
        }
        return decoded.toString();
    }
}
