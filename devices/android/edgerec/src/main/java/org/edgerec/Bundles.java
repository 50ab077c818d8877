package org.edgerec;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.security.DigestOutputStream;
import java.security.MessageDigest;
import java.util.HashSet;
import java.util.Set;
import java.util.regex.Pattern;

/** Installation of bundles into folders, where they can be mapped: assets of an app and downloads are no files. */
public final class Bundles {
    /** Names of bundle files, which remain when the bundle is replaced. */
    static final Pattern OURS = Pattern.compile(
            "(tables|recommend|score|similar|encode|README)-[0-9a-f]{12}\\.(bin|onnx|md)(\\.part)?"
            + "|manifest\\.json\\.part|manifest\\.previous\\.json(\\.part)?");

    /** The source of a bundle's files: {@code name -> assets.open("films.bundle/" + name)}. */
    public interface Source {
        InputStream open(String name) throws IOException;
    }

    private Bundles() {}

    /**
     * Copy a bundle into a folder, completely or not at all: file names change with the content, and the manifest is
     * copied last. Existing files are not copied again; files of an earlier bundle are deleted. Every file is compared
     * by sha256: {@code load} need not verify afterwards.
     *
     * @throws BundleException the source is no bundle, or does not match its manifest.
     * @throws MissingException the source cannot be read, or the folder cannot be written.
     */
    public static void install(Source source, File folder) {
        try {
            if (!folder.isDirectory() && !folder.mkdirs()) {
                throw new IOException("there is no folder " + folder);
            }
            byte[] content;
            try (InputStream stream = source.open(Manifest.NAME)) {
                ByteArrayOutputStream bytes = new ByteArrayOutputStream();
                copy(stream, bytes, Manifest.MOST_BYTES);
                content = bytes.toByteArray();
            }
            Set<String> named = new HashSet<>();
            for (Manifest.Entry entry : new Manifest(content).files()) {
                named.add(entry.file);
                File file = new File(folder, entry.file);
                if (!isThere(folder, entry)) {
                    try (InputStream stream = source.open(entry.file)) {
                        write(stream, file, entry.bytes, entry.sha256);
                    }
                }
            }
            File manifest = new File(folder, Manifest.NAME);
            write(new ByteArrayInputStream(content), manifest, content.length, Signatures.sha256(content));
            String[] names = folder.list();
            for (String name : names == null ? new String[0] : names) {
                if (OURS.matcher(name).matches() && !named.contains(name) && !new File(folder, name).delete()) {
                    throw new IOException(name + " cannot be deleted");
                }
            }
        } catch (IOException error) {
            throw new MissingException("the bundle cannot be copied into " + folder + " (" + error.getMessage()
                    + "); free space there, or check its source", error);
        }
    }

    /** Copy a bundle from another folder. */
    public static void install(File from, File folder) {
        install(name -> new FileInputStream(new File(from, name)), folder);
    }

    private static boolean isThere(File folder, Manifest.Entry entry) {
        try {
            Bundle.verified(folder, entry);
            return true;
        } catch (BundleException missing) {
            return false;
        }
    }

    /** Write a file of a known size, under a temporary name until it is complete. */
    static void write(InputStream stream, File file, long bytes, String sha256) throws IOException {
        File part = new File(file.getPath() + ".part");
        MessageDigest digest = Signatures.digest();
        try (FileOutputStream target = new FileOutputStream(part)) {
            long copied = copy(stream, new DigestOutputStream(target, digest), bytes);
            if (copied != bytes || stream.read() >= 0 || !Signatures.hexadecimal(digest.digest()).equals(sha256)) {
                throw new BundleException(file.getName() + " is not the file that " + Manifest.NAME
                        + " describes; get the bundle again");
            }
            target.getFD().sync();
        }
        if (!part.renameTo(file)) {
            throw new IOException(part + " cannot be renamed");
        }
    }

    /** Copy at most `most` bytes. */
    private static long copy(InputStream from, OutputStream to, long most) throws IOException {
        byte[] buffer = new byte[1 << 16];
        long copied = 0;
        for (int count; copied < most; copied += count) {
            count = from.read(buffer, 0, (int) Math.min(buffer.length, most - copied));
            if (count < 0) {
                break;
            }
            to.write(buffer, 0, count);
        }
        return copied;
    }
}
