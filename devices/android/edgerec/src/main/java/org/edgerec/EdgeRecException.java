package org.edgerec;

/** An error that a caller can cause; its message says what happened, why, and how to fix it. */
public class EdgeRecException extends RuntimeException {
    private static final long serialVersionUID = 1;

    private static final int LONGEST = 2000;
    private static final int END_LENGTH = 500;

    EdgeRecException(String message) {
        super(shown(message));
    }

    EdgeRecException(String message, Throwable cause) {
        super(shown(message), cause);
    }

    /**
     * Make one printable line of a message that may quote untrusted text: escape control characters, shorten long text.
     */
    private static String shown(String message) {
        int length = message.length();
        String text = length <= LONGEST ? message : message.substring(0, LONGEST - END_LENGTH) + " ... "
                + message.substring(length - END_LENGTH);
        StringBuilder escaped = new StringBuilder();
        for (char letter : text.toCharArray()) {
            int kind = Character.getType(letter);
            boolean joins = letter == '\u200c' || letter == '\u200d' || letter == '\u00ad';
            boolean hidden = kind == Character.CONTROL || kind == Character.FORMAT && !joins
                    || kind == Character.LINE_SEPARATOR || kind == Character.PARAGRAPH_SEPARATOR;
            escaped.append(hidden ? String.format("\\u%04x", (int) letter) : String.valueOf(letter));
        }
        return escaped.toString();
    }
}
