//! A table with small stable numbers.

/// Names an element of a [`Slab`]; stale once the element was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle {
    pub number: u32,
    generation: u32,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> Handle {
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.places.push(Place {
                    generation: 0,
                    value: None,
                });
                (self.places.len() - 1) as u32
            }
        };
        let place = &mut self.places[number as usize];
        place.value = Some(value);
        Handle {
            number,
            generation: place.generation,
        }
    }

    pub(crate) fn remove(&mut self, handle: Handle) -> Option<T> {
        let place = self.places.get_mut(handle.number as usize)?;
        if place.generation != handle.generation {
            return None;
        }
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(handle.number);
        Some(value)
    }

    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let place = self.places.get_mut(handle.number as usize)?;
        if place.generation == handle.generation {
            place.value.as_mut()
        } else {
            None
        }
    }

    /// The element with a number, and its handle.
    pub(crate) fn at(&mut self, number: u32) -> Option<(Handle, &mut T)> {
        let place = self.places.get_mut(number as usize)?;
        let handle = Handle {
            number,
            generation: place.generation,
        };
        place.value.as_mut().map(|value| (handle, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Handle, &mut T)> {
        self.places
            .iter_mut()
            .enumerate()
            .filter_map(|(number, place)| {
                let handle = Handle {
                    number: number as u32,
                    generation: place.generation,
                };
                place.value.as_mut().map(|value| (handle, value))
            })
    }
}
