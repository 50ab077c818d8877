package org.edgerec;

/** Every error that a caller can cause, with a message that says what happened, why, and what mends it. */
public class EdgeRecException extends RuntimeException {
    private static final long serialVersionUID = 1;

    private static final int LONGEST = 2000;
    private static final int KEPT_END = 500;

    EdgeRecException(String message) {
        super(shown(message));
    }

    EdgeRecException(String message, Throwable cause) {
        super(shown(message), cause);
    }

    /**
     * One line, that names what came from anywhere: without what a terminal obeys, and the middle of a long one left
     * out.
     */
    private static String shown(String message) {
        int length = message.length();
        String text = length <= LONGEST ? message : message.substring(0, LONGEST - KEPT_END) + " ... "
                + message.substring(length - KEPT_END);
        StringBuilder made = new StringBuilder();
        for (char letter : text.toCharArray()) {
            int kind = Character.getType(letter);
            boolean joins = letter == '\u200c' || letter == '\u200d' || letter == '\u00ad';
            boolean hidden = kind == Character.CONTROL || kind == Character.FORMAT && !joins
                    || kind == Character.LINE_SEPARATOR || kind == Character.PARAGRAPH_SEPARATOR;
            made.append(hidden ? String.format("\\u%04x", (int) letter) : String.valueOf(letter));
        }
        return made.toString();
    }
}
