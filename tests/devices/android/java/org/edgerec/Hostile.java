package org.edgerec;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.HashMap;

/**
 * Opens bundles with graphs that do what no bundle's do, their checksums in order.
 *
 * <p>usage: java org.edgerec.Hostile VECTORS SCRATCH GRAPHS
 */
public final class Hostile {
    private Hostile() {}

    public static void main(String[] arguments) throws IOException {
        File titles = new File(arguments[0], "bundles/titles");
        File place = new File(arguments[1], "bundle");
        Manifest.Entry graph = Bundle.openManifest(titles, new Options()).graphs.get("recommend").entry;
        int refused = 0;
        for (File file : new File(arguments[2]).listFiles()) {
            byte[] content = Files.readAllBytes(file.toPath());
            Vectors.copy(titles, place);
            Files.write(new File(place, graph.file).toPath(), content);
            String manifest = Vectors.text(new File(place, Manifest.NAME))
                    .replace(graph.sha256, Signatures.sha256(content))
                    .replace("\"bytes\":" + graph.bytes + ",\"sha256\":\"" + Signatures.sha256(content),
                            "\"bytes\":" + content.length + ",\"sha256\":\"" + Signatures.sha256(content));
            Files.write(new File(place, Manifest.NAME).toPath(), manifest.getBytes(StandardCharsets.UTF_8));
            try {
                Recommender.load(place).close();
                System.out.println(file + " was opened");
            } catch (BundleException error) {
                System.out.println(file.getName() + ": " + error.getMessage());
                refused += error.getMessage().startsWith(graph.file + " is refused: ") ? 1 : 0;
            }
        }
        int dividing = 0;
        for (File file : new File(arguments[2]).listFiles()) {
            String fault = GraphCheck.fault(Files.readAllBytes(file.toPath()), "tables", new HashMap<>(), 60);
            dividing += fault != null && fault.startsWith("it divides whole numbers") ? 1 : 0;
        }
        System.out.println(refused + " refused, " + dividing + " of them for what they divide");
        System.exit(0);
    }
}
