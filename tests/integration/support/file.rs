//! Files that tests write for the server to read.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// A file of its own, gone with its test.
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    pub(crate) fn new(content: impl AsRef<[u8]>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, content).expect("the folder is there");
        Self(path)
    }

    /// Has it say something else.
    pub(crate) fn write(&self, content: impl AsRef<[u8]>) {
        fs::write(&self.0, content).expect("it is ours");
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("it is UTF-8")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // If it stays, nothing is lost.
        let _ = fs::remove_file(&self.0);
    }
}
