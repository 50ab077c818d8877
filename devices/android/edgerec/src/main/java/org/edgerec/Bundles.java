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
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;

/** Installation of bundles into folders, where they can be mapped: assets of an app and downloads are no folders. */
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
            List<Manifest.Entry> entries = new Manifest(content).files();
            for (Manifest.Entry entry : entries) {
                File file = new File(folder, entry.file);
                if (!isThere(folder, entry)) {
                    try (InputStream stream = source.open(entry.file)) {
                        write(stream, file, entry.bytes, entry.sha256);
                    }
                }
            }
            File manifest = new File(folder, Manifest.NAME);
            write(new ByteArrayInputStream(content), manifest, content.length, Signatures.sha256(content));
            clean(folder, entries);
        } catch (IOException error) {
            throw new MissingException("the bundle cannot be copied into " + folder + " (" + error.getMessage()
                    + "); free space there, or check its source", error);
        }
    }

    /** Delete the files of earlier bundles. */
    private static void clean(File folder, List<Manifest.Entry> entries) throws IOException {
        Set<String> named = new HashSet<>();
        for (Manifest.Entry entry : entries) {
            named.add(entry.file);
        }
        String[] names = folder.list();
        for (String name : names == null ? new String[0] : names) {
            if (OURS.matcher(name).matches() && !named.contains(name) && !new File(folder, name).delete()) {
                throw new IOException(name + " cannot be deleted");
            }
        }
    }

    /** Copy a bundle from another folder. */
    public static void install(File from, File folder) {
        install(name -> new FileInputStream(new File(from, name)), folder);
    }

    /**
     * Unpack a bundle in one file into a folder, where it can be mapped: completely or not at all. Every file is
     * compared by sha256: {@code load} need not verify afterwards. A bundle that is there is replaced, its manifest
     * last, and its other files are deleted. Only one thread and process may do this at a time.
     *
     * @throws BundleException the file is no bundle in one file, or damaged; the folder is as it was.
     * @throws MissingException the file cannot be read, or the folder cannot be written.
     */
    public static void unpack(File file, File folder) {
        try (InputStream stream = new FileInputStream(file)) {
            unpack(stream, file.getPath(), file.length(), folder);
        } catch (IOException error) {
            throw notUnpacked(folder, error);
        }
    }

    /**
     * Unpack a bundle in one file from a stream, such as an asset of an app; see {@link #unpack(File, File)}.
     *
     * @param stream is read to its end, and not closed.
     */
    public static void unpack(InputStream stream, File folder) {
        try {
            unpack(stream, "the stream", -1, folder);
        } catch (IOException error) {
            throw notUnpacked(folder, error);
        }
    }

    private static MissingException notUnpacked(File folder, IOException error) {
        return new MissingException("the bundle cannot be unpacked into " + folder + " (" + error.getMessage()
                + "); free space there, or check its source", error);
    }

    /** @param length bytes of the stream; -1 if they are not known. */
    private static void unpack(InputStream stream, String name, long length, File folder) throws IOException {
        PackedBundle packed = new PackedBundle(stream, name);
        if (length >= 0) {
            packed.demandLength(length);
        }
        File target = folder.getAbsoluteFile();
        File part = new File(target.getParentFile(), "." + target.getName() + ".part");
        delete(part); // of a process that was killed
        if (!part.mkdirs()) {
            throw new IOException(part + " cannot be created");
        }
        try {
            packed.write(part);
            if (!part.renameTo(target)) { // a bundle is there
                List<Manifest.Entry> entries = packed.manifest.files();
                for (Manifest.Entry entry : entries) {
                    rename(new File(part, entry.file), new File(target, entry.file));
                }
                rename(new File(part, Manifest.NAME), new File(target, Manifest.NAME));
                clean(target, entries);
            }
        } finally {
            delete(part);
        }
    }

    private static void delete(File folder) {
        File[] files = folder.listFiles();
        for (File file : files == null ? new File[0] : files) {
            file.delete();
        }
        folder.delete();
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
        rename(part, file);
    }

    private static void rename(File from, File to) throws IOException {
        if (!from.renameTo(to)) {
            throw new IOException(from + " cannot be renamed");
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
