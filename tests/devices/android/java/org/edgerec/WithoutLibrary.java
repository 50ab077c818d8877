package org.edgerec;

import java.io.File;

/** Opens a bundle where onnxruntime's library is missing, and prints what an app is told. */
public final class WithoutLibrary {
    private WithoutLibrary() {}

    public static void main(String[] arguments) {
        try (Recommender model = Recommender.load(new File(arguments[0]))) {
            System.out.println("opened " + model.metadata().items);
        } catch (MissingException error) {
            System.out.println(error.getMessage());
        }
    }
}
