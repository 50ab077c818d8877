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

/** Bundles brought to where they can be mapped: assets of an app are no files, and what is downloaded is one stream. */
public final class Bundles {
    /** What bundles leave behind when they are replaced. */
    static final Pattern OURS = Pattern.compile(
            "(tables|recommend|score|similar|encode|README)-[0-9a-f]{12}\\.(bin|onnx|md)(\\.part)?"
            + "|manifest\\.json\\.part|manifest\\.previous\\.json(\\.part)?");

    /** Where the files of a bundle come from: {@code name -> assets.open("films.bundle/" + name)}. */
    public interface Source {
        InputStream open(String name) throws IOException;
    }

    private Bundles() {}

    /**
     * Copy a bundle into a folder, which has it as a whole or what was there before: its files' names change with their
     * content, and the manifest comes last. What is there already is not copied again; what an earlier bundle left
     * goes. Every file is compared by sha256: {@code load} need not verify after it.
     *
     * @throws BundleException no bundle, or one that does not fit its manifest.
     * @throws MissingException where the source cannot be read or the folder not be written.
     */
    public static void install(Source source, File folder) {
        try {
            if (!folder.isDirectory() && !folder.mkdirs()) {
                throw new IOException("there is no folder " + folder);
            }
            byte[] content;
            try (InputStream stream = source.open(Manifest.NAME)) {
                ByteArrayOutputStream made = new ByteArrayOutputStream();
                copy(stream, made, Manifest.MOST_BYTES);
                content = made.toByteArray();
            }
            Set<String> kept = new HashSet<>();
            for (Manifest.Entry entry : new Manifest(content).files()) {
                kept.add(entry.file);
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
                if (OURS.matcher(name).matches() && !kept.contains(name) && !new File(folder, name).delete()) {
                    throw new IOException(name + " cannot be deleted");
                }
            }
        } catch (IOException error) {
            throw new MissingException("the bundle cannot be brought into " + folder + " (" + error.getMessage()
                    + "); free space there, or look at its source", error);
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

    /** A file of so many bytes, under another name until it is whole. */
    static void write(InputStream stream, File file, long bytes, String sha256) throws IOException {
        File part = new File(file.getPath() + ".part");
        MessageDigest digest = Signatures.digest();
        try (FileOutputStream made = new FileOutputStream(part)) {
            long copied = copy(stream, new DigestOutputStream(made, digest), bytes);
            if (copied != bytes || stream.read() >= 0 || !Signatures.hexadecimal(digest.digest()).equals(sha256)) {
                throw new BundleException(file.getName() + " is not the file that " + Manifest.NAME
                        + " describes; get the bundle again");
            }
            made.getFD().sync();
        }
        if (!part.renameTo(file)) {
            throw new IOException(part + " cannot be renamed");
        }
    }

    /** Copy at most so many bytes. */
    private static long copy(InputStream from, OutputStream to, long most) throws IOException {
        byte[] room = new byte[1 << 16];
        long copied = 0;
        for (int count; copied < most; copied += count) {
            count = from.read(room, 0, (int) Math.min(room.length, most - copied));
            if (count < 0) {
                break;
            }
            to.write(room, 0, count);
        }
        return copied;
    }
}
