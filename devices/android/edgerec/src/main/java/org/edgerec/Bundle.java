package org.edgerec;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;

import java.io.DataInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/** An open bundle: its files are checked, its graphs are opened on first use and share the tables. */
final class Bundle {
    final Manifest manifest;
    final Tables tables;
    private final File folder;
    private final int threads;
    private final OrtEnvironment environment;
    private final Map<String, OrtSession> sessions = new HashMap<>();

    /** Inputs of a graph: whole numbers or floats by name, with their shapes. */
    static final class Feed {
        private final Map<String, Object> values = new HashMap<>();
        private final Map<String, long[]> shapes = new HashMap<>();

        /** Add whole numbers of shape (1, n). */
        Feed row(String name, long[] row) {
            return put(name, row, 1, row.length);
        }

        /** Add a long[] or float[] of any shape. */
        Feed put(String name, Object array, long... shape) {
            values.put(name, array);
            shapes.put(name, shape);
            return this;
        }
    }

    /**
     * Open a bundle and check its files.
     *
     * @throws BundleException no bundle, a missing, truncated or changed file, a hostile graph, or a newer major
     *     version.
     */
    Bundle(File folder, Options options) {
        this.folder = folder;
        threads = options.threads;
        manifest = openManifest(folder, options);
        boolean verify = options.verify || options.trusted != null;
        for (Manifest.Graph graph : manifest.graphs.values()) {
            byte[] content = read(folder, graph.entry);
            String fault = GraphCheck.fault(content, manifest.tables.file, graph.tensors, manifest.items.rows);
            if (fault != null) {
                throw new BundleException(graph.entry.file + " is refused: " + fault + "; export it again");
            }
        }
        tables = new Tables(verify ? verified(folder, manifest.tables) : checked(folder, manifest.tables), manifest);
        if (options.trusted != null) {
            for (Manifest.Entry other : manifest.others) {
                verified(folder, other);
            }
        }
        environment = environment();
    }

    /** Read and check the manifest in a folder. Throws BundleException, of it SignatureException. */
    static Manifest openManifest(File folder, Options options) {
        Manifest manifest = new Manifest(document(folder, options));
        Signatures.checkIndex(manifest, options);
        return manifest;
    }

    /** Read the manifest in a folder, and check that one of the trusted keys signed it. */
    static byte[] document(File folder, Options options) {
        File file = new File(folder, Manifest.NAME);
        if (folder.isFile()) {
            throw new BundleException(folder + " is a file; unpack a bundle in one file first: Bundles.unpack");
        }
        if (!file.isFile()) {
            throw new BundleException(
                    folder + " is no bundle: there is no " + Manifest.NAME + " in it; copy one there");
        }
        byte[] content = document(file);
        if (options.trusted != null) {
            Signatures.check(content, options.trusted);
        }
        return content;
    }

    /** Read a manifest file. */
    static byte[] document(File file) {
        if (file.length() > Manifest.MOST_BYTES) {
            throw new BundleException(file + " has more than " + Manifest.MOST_BYTES
                    + " bytes, which no manifest has; copy it again");
        }
        return read(file, (int) file.length());
    }

    /** Load onnxruntime with its telemetry off, which it reads from the environment when its library is loaded. */
    private static OrtEnvironment environment() {
        try {
            Class<?> os = Class.forName("android.system.Os");
            os.getMethod("setenv", String.class, String.class, boolean.class)
                    .invoke(null, "ORT_DISABLE_TELEMETRY", "1", true);
        } catch (ReflectiveOperationException elsewhere) {
            // Not Android: the user sets the environment.
        }
        OrtEnvironment environment;
        try {
            environment = OrtEnvironment.getEnvironment(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR);
        } catch (LinkageError missing) {
            throw new MissingException("onnxruntime's library is not among the app's; depend on "
                    + "com.microsoft.onnxruntime:onnxruntime-android, elsewhere on :onnxruntime, and keep the libraries"
                    + " of this device's ABI", missing);
        }
        try {
            environment.setTelemetry(false);
        } catch (OrtException none) {
            // This onnxruntime has no telemetry.
        }
        return environment;
    }

    /** Return a file of the bundle after a check that it exists, has the promised size, and is no link. */
    private static File checked(File folder, Manifest.Entry entry) {
        File file = new File(folder, entry.file);
        if (!file.isFile()) {
            throw new BundleException(file + " is missing; copy the bundle again");
        }
        try {
            if (!file.getCanonicalFile().equals(new File(folder.getCanonicalFile(), entry.file))) {
                throw new BundleException(file + " is a link; copy the file itself");
            }
        } catch (IOException error) {
            throw new BundleException(file + " cannot be read: " + error.getMessage(), error);
        }
        if (file.length() != entry.bytes) {
            throw new BundleException(file + " has " + file.length() + " bytes where " + Manifest.NAME + " says "
                    + entry.bytes + "; copy it again");
        }
        return file;
    }

    /** Return a file of the bundle after a check of its sha256 too. */
    static File verified(File folder, Manifest.Entry entry) {
        File file = checked(folder, entry);
        MessageDigest digest = Signatures.digest();
        byte[] buffer = new byte[1 << 16];
        try (FileInputStream stream = new FileInputStream(file)) {
            for (int count = stream.read(buffer); count >= 0; count = stream.read(buffer)) {
                digest.update(buffer, 0, count);
            }
        } catch (IOException error) {
            throw new BundleException(file + " cannot be read: " + error.getMessage() + "; copy it again", error);
        }
        if (!Signatures.hexadecimal(digest.digest()).equals(entry.sha256)) {
            throw altered(entry.file);
        }
        return file;
    }

    /** Read a graph or a card, and compare its sha256. */
    static byte[] read(File folder, Manifest.Entry entry) {
        File file = checked(folder, entry);
        if (entry.bytes > Manifest.MOST_BYTES) {
            throw new BundleException(file + " has more than " + Manifest.MOST_BYTES + " bytes; export it again");
        }
        byte[] content = read(file, (int) entry.bytes);
        if (!Signatures.sha256(content).equals(entry.sha256)) {
            throw altered(entry.file);
        }
        return content;
    }

    private static byte[] read(File file, int bytes) {
        byte[] content = new byte[bytes];
        try (DataInputStream stream = new DataInputStream(new FileInputStream(file))) {
            stream.readFully(content);
        } catch (IOException error) {
            throw new BundleException(file + " cannot be read: " + error.getMessage() + "; copy it again", error);
        }
        return content;
    }

    private static BundleException altered(String file) {
        return new BundleException(
                file + " is not the file that " + Manifest.NAME + " describes (sha256 differs); copy it again");
    }

    /** Run a graph and return copies of its outputs: long[] for whole numbers, else float[]. */
    Map<String, Object> run(String name, Feed feed) {
        Map<String, OnnxTensor> inputs = new HashMap<>();
        try {
            for (Map.Entry<String, Object> one : feed.values.entrySet()) {
                long[] shape = feed.shapes.get(one.getKey());
                Object values = one.getValue();
                inputs.put(one.getKey(), values instanceof float[]
                        ? OnnxTensor.createTensor(environment, FloatBuffer.wrap((float[]) values), shape)
                        : OnnxTensor.createTensor(environment, LongBuffer.wrap((long[]) values), shape));
            }
            Map<String, Object> outputs = new HashMap<>();
            try (OrtSession.Result result = session(name).run(inputs)) {
                for (Map.Entry<String, OnnxValue> one : result) {
                    OnnxTensor tensor = (OnnxTensor) one.getValue();
                    FloatBuffer floats = tensor.getFloatBuffer();
                    outputs.put(one.getKey(), floats == null ? longs(tensor.getLongBuffer()) : floats(floats));
                }
            }
            return outputs;
        } catch (OrtException error) {
            throw new BundleException(
                    "the '" + name + "' graph failed: " + firstLine(error) + "; export it again", error);
        } finally {
            for (OnnxTensor tensor : inputs.values()) {
                tensor.close();
            }
        }
    }

    private static long[] longs(LongBuffer buffer) {
        long[] values = new long[buffer.remaining()];
        buffer.get(values);
        return values;
    }

    private static float[] floats(FloatBuffer buffer) {
        float[] values = new float[buffer.remaining()];
        buffer.get(values);
        return values;
    }

    /** Return the session of a graph, opened by its path: onnxruntime maps the tables file in the same folder. */
    private OrtSession session(String name) throws OrtException {
        Manifest.Graph graph = manifest.graphs.get(name);
        if (graph == null) {
            throw new RequestException("this bundle has no '" + name + "' graph: it was exported without");
        }
        synchronized (sessions) {
            OrtSession session = sessions.get(name);
            if (session == null) {
                session = opened(graph.entry.file);
                sessions.put(name, session);
            }
            return session;
        }
    }

    private OrtSession opened(String file) throws OrtException {
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
            options.setIntraOpNumThreads(threads);
            options.setMemoryPatternOptimization(false);
            for (Map.Entry<String, Object> setting : manifest.session.entrySet()) {
                // Other options are ignored: they could name files.
                if (Spec.SESSION_OPTIONS.contains(setting.getKey())) {
                    options.addConfigEntry(setting.getKey(), String.valueOf(setting.getValue()));
                }
            }
            // Constant folding is off: a hostile graph of a few kB could otherwise allocate gigabytes when opened.
            for (Map.Entry<String, String> setting : Spec.READER_OPTIONS.entrySet()) {
                options.addConfigEntry(setting.getKey(), setting.getValue());
            }
            return environment.createSession(new File(folder, file).getPath(), options);
        } catch (OrtException error) {
            throw new BundleException("onnxruntime cannot open " + file + ": " + firstLine(error), error);
        }
    }

    private static String firstLine(OrtException error) {
        return String.valueOf(error.getMessage()).split("\n")[0];
    }

    void close() {
        synchronized (sessions) {
            for (OrtSession session : sessions.values()) {
                try {
                    session.close();
                } catch (OrtException error) {
                    throw new EdgeRecException("onnxruntime cannot close a session: " + firstLine(error), error);
                }
            }
            sessions.clear();
        }
    }

    /** Return the rows without repetitions, in order. */
    static long[] distinct(long[] rows) {
        Set<Long> seen = new HashSet<>();
        long[] found = new long[rows.length];
        int length = 0;
        for (long row : rows) {
            if (seen.add(row)) {
                found[length++] = row;
            }
        }
        return Arrays.copyOf(found, length);
    }
}
