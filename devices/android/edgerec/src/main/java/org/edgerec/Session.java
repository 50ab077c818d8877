package org.edgerec;

import java.io.DataInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/** A growing history that never leaves the device. Thread-safe. */
public final class Session {
    /** Maximum number of items, of which the latest are remembered. */
    public static final int LIMIT = 1000;

    private static final long MOST_BYTES = 16 << 20;
    /** The first number that JavaScript, which stores histories in the same format, would round. */
    private static final long EXACT = 1L << 53;

    private final Recommender model;
    private final File store;
    private List<Object> items = new ArrayList<>();

    Session(Recommender model, File store) {
        this.model = model;
        this.store = store;
        if (store != null && store.exists()) {
            items = latest(read());
        }
    }

    /** Return raw ids, the latest last, at most LIMIT. Ids that the bundle does not know are stored, but not used. */
    public synchronized List<Object> items() {
        return Collections.unmodifiableList(new ArrayList<>(items));
    }

    /** Add an item, if it is new. Throws RequestException if the bundle does not know it. */
    public synchronized void add(Object item) {
        model.title(item); // throws for an unknown item
        Object id = id(item);
        if (!items.contains(id)) {
            List<Object> now = new ArrayList<>(items);
            now.add(id);
            become(latest(now));
        }
    }

    private static List<Object> latest(List<Object> items) {
        return items.subList(Math.max(0, items.size() - LIMIT), items.size());
    }

    /** Forget an item, in the store too. */
    public synchronized void forget(Object item) {
        List<Object> now = new ArrayList<>(items);
        now.remove(id(item));
        become(now);
    }

    /** Forget all items; the store is deleted. */
    public synchronized void forget() {
        become(new ArrayList<>());
    }

    /** Recommend for the history. */
    public List<Recommendation> recommend(int k) {
        return recommend(k, Collections.emptyList());
    }

    /** Recommend for the history without some items. */
    public List<Recommendation> recommend(int k, Collection<?> exclude) {
        return model.recommend(request().k(k).exclude(exclude));
    }

    /** Return a request for the history, which takes limits: {@code model.recommend(session.request().rarity(0.2))}. */
    public Request request() {
        return Request.ofHistory(known());
    }

    /** Return the scores of items for the history. */
    public float[] score(Collection<?> candidates) {
        return model.score(request(), candidates);
    }

    private List<Object> known() {
        List<Object> known = new ArrayList<>();
        for (Object item : items()) {
            if (model.has(item)) {
                known.add(item);
            }
        }
        return known;
    }

    /** Return an id in the form of answers; values that are no ids, such as fractions, are unchanged. */
    private static Object id(Object item) {
        return Ids.isWhole(item) ? (Object) ((Number) item).longValue() : item;
    }

    private void become(List<Object> now) {
        if (store != null) {
            if (now.isEmpty()) {
                if (!store.delete() && store.exists()) {
                    throw failed(new IOException("cannot be deleted"));
                }
            } else {
                write(now);
            }
        }
        items = new ArrayList<>(now);
    }

    /** Write the store under a temporary name first, so that it is always complete. */
    private void write(List<Object> now) {
        StringBuilder text = new StringBuilder("{\"format\":\"edgerec.history\",\"version\":1,\"items\":[");
        String comma = "";
        for (Object item : now) {
            text.append(comma).append(written(item));
            comma = ",";
        }
        File part = new File(store.getPath() + ".part");
        try {
            File folder = store.getAbsoluteFile().getParentFile();
            if (!folder.isDirectory() && !folder.mkdirs()) {
                throw new IOException("there is no folder " + folder);
            }
            if (part.exists() && !part.delete() || !part.createNewFile()) {
                throw new IOException(part + " cannot be created");
            }
            ownersAlone(part);
            try (FileOutputStream stream = new FileOutputStream(part)) {
                stream.write(text.append("]}").toString().getBytes(StandardCharsets.UTF_8));
                stream.getFD().sync();
            }
            if (!part.renameTo(store)) {
                throw new IOException(part + " cannot be renamed");
            }
        } catch (IOException error) {
            throw failed(error);
        }
    }

    private static String written(Object item) {
        if (item instanceof String) {
            return Json.quoted((String) item);
        }
        long id = (Long) item;
        return id >= EXACT || id <= -EXACT ? "{\"int\":\"" + id + "\"}" : String.valueOf(id);
    }

    private static void ownersAlone(File file) throws IOException {
        boolean done = file.setReadable(false, false) & file.setWritable(false, false);
        done &= file.setReadable(true, true) & file.setWritable(true, true);
        if (!done) {
            throw new IOException("the permissions of " + file + " cannot be restricted");
        }
    }

    private List<Object> read() {
        try (FileInputStream stream = new FileInputStream(store)) {
            if (store.length() > MOST_BYTES) {
                throw new IOException("it is no history");
            }
            byte[] content = new byte[(int) store.length()];
            new DataInputStream(stream).readFully(content);
            List<Object> found = parsed(new String(content, StandardCharsets.UTF_8));
            if (found == null) {
                throw new IOException("it is no history");
            }
            return found;
        } catch (IOException error) {
            throw failed(error);
        }
    }

    /** Parse a history; null if the text is none. */
    private static List<Object> parsed(String text) {
        try {
            Map<?, ?> fields = (Map<?, ?>) Json.parse(text);
            if (!"edgerec.history".equals(fields.get("format")) || !Long.valueOf(1).equals(fields.get("version"))) {
                return null;
            }
            List<Object> items = new ArrayList<>();
            for (Object item : (List<?>) fields.get("items")) {
                Object id = item instanceof Map ? Long.valueOf((String) ((Map<?, ?>) item).get("int")) : item;
                if (!(id instanceof Long || id instanceof String)) {
                    return null;
                }
                items.add(id);
            }
            return items;
        } catch (IllegalArgumentException | ClassCastException | NullPointerException other) {
            return null;
        }
    }

    private MissingException failed(IOException error) {
        return new MissingException("the history in " + store + " cannot be read or written (" + error.getMessage()
                + "); free space there, or remove it", error);
    }
}
