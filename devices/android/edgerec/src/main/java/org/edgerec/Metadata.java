package org.edgerec;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/** Facts about a bundle from its manifest. */
public final class Metadata {
    public final String version;
    public final String layout;
    public final String precision;
    /** Number of dimensions of a row. */
    public final int d;
    public final int items;
    /** 0 if user vectors are computed from histories. */
    public final int users;
    /** The number below which a reader does not go back; 0 if the bundle has none. */
    public final long rollbackIndex;
    /** Size of all files. */
    public final long bytes;
    /** "recommend", "score", and optionally "similar" and "encode". */
    public final List<String> graphs;
    public final boolean titles;
    /** Names of the attributes of items; none if the bundle was exported without. */
    public final List<String> attributes;
    /** Data, backbone, method, budget, metrics; all optional: text, numbers, lists and maps, as in the manifest. */
    public final Map<String, Object> about;

    Metadata(Manifest manifest) {
        version = manifest.version;
        layout = manifest.layout;
        precision = manifest.precision;
        d = manifest.d;
        items = manifest.items.rows;
        users = manifest.users == null ? 0 : manifest.users.rows;
        rollbackIndex = manifest.rollbackIndex;
        bytes = manifest.bytes;
        graphs = Collections.unmodifiableList(new ArrayList<>(manifest.graphs.keySet()));
        titles = manifest.sections.containsKey("item_titles");
        attributes = Collections.unmodifiableList(manifest.attributes);
        about = Collections.unmodifiableMap(manifest.about);
    }
}
