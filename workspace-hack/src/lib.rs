//! Nothing to use: its manifest, written by cargo-hakari, makes every third-party crate be built once, with one set
//! of features, whichever package of the workspace asks.
