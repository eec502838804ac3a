//! Places where a process may die while it writes or removes a file. A test lets it stand still there and kills it; in a node
//! that is not built for tests nothing happens at them.

/// A place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// A piece of a file was handed to the store.
    Piece,
    /// All pieces were; none of them is where it stays.
    Written,
    /// All of the content is where it stays; the file has no name yet.
    Kept,
    /// The statements that give the file its name are done, and their transaction is open.
    Named,
    /// The file has its name, and nobody was told.
    Published,
    /// Content was removed, and its row is still there.
    Removed,
}

#[cfg(not(any(test, feature = "test-support")))]
pub(super) async fn pass(_point: Point) {}

#[cfg(any(test, feature = "test-support"))]
pub(super) use standing::pass;
#[cfg(any(test, feature = "test-support"))]
pub use standing::{stand_still_at, stands_still};

/// What is told of one process, and seen by all of its threads.
#[cfg(any(test, feature = "test-support"))]
mod standing {
    use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

    use super::Point;

    const NAMES: [(&str, Point); 6] = [
        ("piece", Point::Piece),
        ("written", Point::Written),
        ("kept", Point::Kept),
        ("named", Point::Named),
        ("published", Point::Published),
        ("removed", Point::Removed),
    ];
    /// Where to stand still: one more than its number in [`NAMES`], or nowhere.
    static WHERE: AtomicU8 = AtomicU8::new(0);
    /// How many may pass there first.
    static MAY_PASS: AtomicU32 = AtomicU32::new(0);
    static STANDS: AtomicBool = AtomicBool::new(false);

    /// Lets this process stand still for ever where it writes or removes a file: at `piece`, `written`, `kept`, `named`,
    /// `published` or `removed`, when so many have passed there. Any other name means nowhere.
    pub fn stand_still_at(name: &str, may_pass: u32) {
        let place = NAMES.iter().position(|(of, _)| *of == name);
        let place = place.and_then(|place| u8::try_from(place + 1).ok()).unwrap_or(0);
        WHERE.store(0, Ordering::SeqCst);
        MAY_PASS.store(may_pass, Ordering::SeqCst);
        STANDS.store(false, Ordering::SeqCst);
        WHERE.store(place, Ordering::SeqCst);
    }

    /// Says whether something stands still where [`stand_still_at`] said.
    #[must_use]
    pub fn stands_still() -> bool {
        STANDS.load(Ordering::SeqCst)
    }

    pub(in crate::files) async fn pass(point: Point) {
        let place = usize::from(WHERE.load(Ordering::SeqCst));
        let is_here = place > 0 && NAMES.get(place - 1).is_some_and(|(_, of)| *of == point);
        if !is_here {
            return;
        }
        let less = |left: u32| left.checked_sub(1);
        if MAY_PASS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err() {
            STANDS.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
    }
}
