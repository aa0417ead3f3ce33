//! Writes the archive that the kernel unpacks as its first file system.
//!
//! Only what an initramfs needs of the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst,
//! 6.12): no hard links, no checksums, everything owned by root with the time 0, so that the same files always
//! make the same bytes.

use std::fmt::Write as _;

/// What a name in the archive stands for.
pub(crate) enum Node<'a> {
    /// A directory with mode 0755.
    Directory,
    /// A file: its content and permission bits.
    File { data: &'a [u8], mode: u32 },
    /// A symbolic link to this path.
    Link { target: &'a str },
    /// A character device: major and minor number.
    CharDevice { major: u32, minor: u32 },
}

/// An archive that is being written.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds one name. It must be relative, and its directory must have been added before it.
    pub(crate) fn add(&mut self, name: &str, node: &Node<'_>) {
        match node {
            Node::Directory => self.entry(name, 0o040_755, (0, 0), &[]),
            Node::File { data, mode } => self.entry(name, 0o100_000 | mode, (0, 0), data),
            Node::Link { target } => self.entry(name, 0o120_777, (0, 0), target.as_bytes()),
            Node::CharDevice { major, minor } => self.entry(name, 0o020_600, (*major, *minor), &[]),
        }
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.entries += 1;
        let (major, minor) = device;
        let size = data.len() as u32;
        let name_size = name.len() as u32 + 1;
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            // Writing to a String cannot fail.
            let _ = write!(header, "{field:08x}");
        }
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    /// Names and contents begin at multiples of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of an entry as text: every field is eight digits in base 16. The kernel itself judges the whole
    /// archive at each boot.
    fn header(bytes: &[u8], at: usize) -> Vec<&str> {
        let text = std::str::from_utf8(&bytes[at..at + 110]).unwrap();
        assert_eq!(&text[..6], "070701");
        (6..110).step_by(8).map(|start| &text[start..start + 8]).collect()
    }

    #[test]
    fn entries_stand_where_the_format_wants_them() {
        let mut archive = Archive::default();
        archive.add("dev", &Node::Directory);
        archive.add("dev/console", &Node::CharDevice { major: 5, minor: 1 });
        archive.add("odd", &Node::File { data: b"abcde", mode: 0o755 });
        let file_end = archive.bytes.len();
        archive.add("ln", &Node::Link { target: "odd" });
        let link = header(&archive.bytes, file_end);
        assert_eq!((link[1], link[6]), ("0000a1ff", "00000003"));
        archive.bytes.truncate(file_end);
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);

        let directory = header(&bytes, 0);
        assert_eq!(directory[1], "000041ed", "mode");
        assert_eq!(directory[11], "00000004", "size of the name with its zero");
        // 110 + "dev\0" = 114, padded to 116.
        let device = header(&bytes, 116);
        assert_eq!((device[1], device[9], device[10]), ("00002180", "00000005", "00000001"));
        // 110 + "dev/console\0" = 122, padded to 124.
        let file = header(&bytes, 240);
        assert_eq!((file[1], file[6]), ("000081ed", "00000005"));
        assert_eq!(&bytes[240 + 110..240 + 114], b"odd\0");
        // The name ends at 354, padded to 356; the data ends at 361, padded to 364.
        assert_eq!(&bytes[356..364], b"abcde\0\0\0");
        let trailer = header(&bytes, 364);
        assert_eq!((trailer[6], trailer[11]), ("00000000", "0000000b"));
        assert_eq!(&bytes[474..485], b"TRAILER!!!\0");
    }
}
