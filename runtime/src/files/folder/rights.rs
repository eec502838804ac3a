//! Who may read what lies in the shared folder: the user that the nodes run as, and nobody else on the machines. Where the
//! folder itself may be written by its group, or what an earlier release made in it, as it must for nodes that run as different
//! users, the group may too.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// The user.
    Owner,
    /// The user and the group.
    Group,
}

impl Rights {
    /// Reads them off the folder in which all of it lies, and off these in it, if they are there: of a folder whose group may
    /// write in them, and not beside them, nodes of other users must not be locked out.
    #[cfg(unix)]
    pub(super) fn of(root: &Path, within: &[&str]) -> io::Result<Self> {
        let is_shared = |path: &Path| -> io::Result<bool> {
            Ok(unix::mode(&fs::metadata(path)?) & unix::GROUP_WRITES != 0)
        };
        if is_shared(root)? {
            return Ok(Self::Group);
        }
        for name in within {
            match is_shared(&root.join(name)) {
                Ok(true) => return Ok(Self::Group),
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self::Owner)
    }

    /// What may be is said by the system.
    #[cfg(not(unix))]
    pub(super) fn of(root: &Path, _within: &[&str]) -> io::Result<Self> {
        fs::metadata(root).map(|_| Self::Owner)
    }

    /// Makes a folder; fails when there is one. For a group it is made elsewhere, in `aside` on the same disk, and has its
    /// name when it has its rights: whoever dies between the one and the other leaves nothing that others cannot write in.
    pub(super) fn make_folder(self, path: &Path, aside: &Path) -> io::Result<()> {
        match self {
            Self::Owner => self.create(path),
            Self::Group => {
                if path.try_exists()? {
                    return Err(ErrorKind::AlreadyExists.into());
                }
                let draft = aside.join(format!("folder-{:032x}", rand::random::<u128>()));
                self.create(&draft)?;
                // One that others have made meanwhile is in its place, or is replaced by this one while nothing is in it.
                let made = self.widen_folder(&draft).and_then(|()| fs::rename(&draft, path));
                if made.is_err() {
                    fs::remove_dir(&draft).ok();
                }
                made.map_err(|error| {
                    let is_there = error.kind() == ErrorKind::DirectoryNotEmpty;
                    if is_there { ErrorKind::AlreadyExists.into() } else { error }
                })
            }
        }
    }

    fn create(self, path: &Path) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, self.of_folders());
        builder.create(path)
    }

    #[cfg(unix)]
    fn widen_folder(self, path: &Path) -> io::Result<()> {
        unix::widen(&File::open(path)?, self.of_folders())
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "it is what others do")]
    fn widen_folder(self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Makes a file; fails when there is one.
    pub(super) fn make_file(self, path: &Path) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, self.of_files());
        let file = options.open(path)?;
        #[cfg(unix)]
        if self == Self::Group {
            unix::widen(&file, self.of_files())?;
        }
        Ok(file)
    }

    /// Takes from others what they may do in a folder, which was made by an earlier release or by hand.
    #[cfg(unix)]
    pub(super) fn narrow(self, path: &Path) -> io::Result<()> {
        unix::narrow(path, self.of_folders())
    }

    #[cfg(not(unix))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "it is what others do")]
    pub(super) fn narrow(self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    #[cfg(unix)]
    const fn of_folders(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Group => 0o770,
        }
    }

    #[cfg(unix)]
    const fn of_files(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

/// Says whether a folder lies on the disk that the system itself is on: then nothing is mounted there.
#[cfg(unix)]
pub(super) fn is_on_the_disk_of_the_system(root: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(root).is_some_and(|of_it| device(Path::new("/")) == Some(of_it))
}

#[cfg(not(unix))]
pub(super) fn is_on_the_disk_of_the_system(_root: &Path) -> bool {
    false
}

#[cfg(unix)]
mod unix {
    use std::fs::{self, File, Metadata, Permissions};
    use std::io;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    /// The group may write.
    pub(super) const GROUP_WRITES: u32 = 0o020;
    /// What rights there are for users, and beside them the bit by which a folder gives its group to what is made in it.
    const USERS: u32 = 0o777;
    const ALL: u32 = 0o7777;

    pub(super) fn mode(metadata: &Metadata) -> u32 {
        metadata.permissions().mode()
    }

    /// Gives what the process' mask has taken away. Where nothing is missing nothing is changed: some systems that are mounted
    /// give everything rights of their own, and refuse to change them.
    pub(super) fn widen(file: &File, rights: u32) -> io::Result<()> {
        let found = mode(&file.metadata()?);
        if found & rights == rights {
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode((found & ALL & !USERS) | rights))
    }

    pub(super) fn narrow(path: &Path, rights: u32) -> io::Result<()> {
        let found = mode(&fs::metadata(path)?);
        let too_much = found & USERS & !rights;
        if too_much == 0 {
            return Ok(());
        }
        fs::set_permissions(path, Permissions::from_mode(found & ALL & !too_much))
    }
}
