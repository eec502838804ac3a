//! The console as a browser meets it, with a made-up API behind it.
