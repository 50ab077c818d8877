/* The bundle in one file, as it is, in flash: -DBUNDLE='"path"'. */
    .section .bundle, "a"
    .global bundle_start, bundle_end
    .balign 64
bundle_start:
    .incbin BUNDLE
bundle_end:
