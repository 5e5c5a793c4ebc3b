//! Files that are read whole, under a limit: the configuration, and what it names. A wrong name, of a device or a log, must not
//! fill the memory.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use crate::units::Size;

/// What a file holds, at most so many bytes.
///
/// # Errors
/// When it cannot be read, or is longer.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("it is longer than {}", Size(most))));
    }
    Ok(bytes)
}

/// The same of one that holds text.
///
/// # Errors
/// When it cannot be read, is longer, or is no UTF-8. What it holds then is not shown: it may be a secret.
pub(crate) fn read_text(path: &Path, most: usize) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|_| io::Error::other("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_has_no_end_or_is_no_text_is_refused() {
        let path = std::env::temp_dir().join(format!("fanfare-bounded-{}", std::process::id()));
        fs::write(&path, "four").expect("it can be written");
        assert_eq!(read_text(&path, 4).expect("it is short enough"), "four");
        assert_eq!(read(&path, 3).unwrap_err().to_string(), "it is longer than 3");
        fs::write(&path, [0xff]).expect("it can be written");
        let error = read_text(&path, 4).unwrap_err().to_string();
        fs::remove_file(&path).expect("it is there");
        assert_eq!(error, "it is not UTF-8");
        assert_eq!(read(Path::new("/dev/zero"), 1_024).unwrap_err().to_string(), "it is longer than 1KiB");
        assert_eq!(read(&path, 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
