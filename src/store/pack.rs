//! Which due resources one request asks for: of sources that ask for many keys at once, as many as one may have.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::Together;
use super::grant::Offered;
use crate::domain::resource::{ResourceId, SourceId};

/// Something that may be leased.
pub(super) trait Due {
    /// What, of which source, and since when.
    fn offered(&self) -> Offered;
}

/// How many resources are read to fill so many requests.
pub(super) fn to_read(requests: i64, together: &Together) -> i64 {
    let most = together.values().copied().max().unwrap_or(1);
    requests.saturating_mul(most.max(1).into())
}

/// Packs what is due, in its order, into requests: each is known by its first, and stands where that stood. What is not due
/// by then stays alone: it only tells when to ask again.
pub(super) fn pack<T: Due>(due: Vec<T>, due_by: DateTime<Utc>, together: &Together) -> Vec<Vec<T>> {
    let mut requests: Vec<Vec<T>> = Vec::with_capacity(due.len());
    let mut open: HashMap<SourceId, usize> = HashMap::new();
    for one in due {
        let Offered { source, due_at, .. } = one.offered();
        let most = together.get(&source).filter(|_| due_at <= due_by).map_or(1, |most| *most as usize);
        let place = open.get(&source).copied().filter(|_| most > 1);
        let room = place.and_then(|place| requests.get_mut(place)).filter(|request| request.len() < most);
        if let Some(request) = room {
            request.push(one);
            continue;
        }
        if most > 1 {
            open.insert(source, requests.len());
        }
        requests.push(vec![one]);
    }
    requests
}

/// Each request as it is offered: by its first.
pub(super) fn offered<T: Due>(requests: &[Vec<T>]) -> Vec<Offered> {
    requests.iter().filter_map(|members| members.first()).map(T::offered).collect()
}

/// What is granted, each with the first of its request. `granted` are places among the requests, in order.
pub(super) fn ridden<T: Due>(requests: Vec<Vec<T>>, granted: &[usize]) -> Vec<(ResourceId, T)> {
    let with_first = |(_, members): (usize, Vec<T>)| {
        let first = members.first().map(|first| first.offered().resource);
        members.into_iter().filter_map(move |one| Some((first?, one)))
    };
    let is_granted = |(place, _): &(usize, Vec<T>)| granted.binary_search(place).is_ok();
    requests.into_iter().enumerate().filter(is_granted).flat_map(with_first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Due for (i64, i64) {
        fn offered(&self) -> Offered {
            Offered { resource: ResourceId(self.1), source: SourceId(self.0), due_at: at(self.1) }
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_request_takes_what_is_due_of_its_source_wherever_it_stands() {
        let due = vec![(1, 1), (2, 2), (1, 3), (1, 4), (2, 5), (1, 6), (1, 100)];
        let together = Together::from([(SourceId(1), 3)]);
        let packed = pack(due.clone(), at(50), &together);
        assert_eq!(packed, [vec![(1, 1), (1, 3), (1, 4)], vec![(2, 2)], vec![(2, 5)], vec![(1, 6)], vec![(1, 100)]]);
        let alone: Vec<_> = due.iter().map(|one| vec![*one]).collect();
        assert_eq!(pack(due, at(50), &Together::new()), alone);
    }

    #[test]
    fn what_is_granted_is_known_by_the_first_of_its_request() {
        let requests = vec![vec![(1, 1), (1, 3)], vec![(2, 2)], vec![(1, 6)]];
        assert_eq!(offered(&requests).iter().map(|one| one.resource.0).collect::<Vec<_>>(), [1, 2, 6]);
        let granted = ridden(requests, &[0, 2]);
        assert_eq!(granted, [(ResourceId(1), (1, 1)), (ResourceId(1), (1, 3)), (ResourceId(6), (1, 6))]);
    }

    #[test]
    fn enough_is_read_to_fill_what_may_be_granted() {
        assert_eq!(to_read(9, &Together::new()), 9);
        assert_eq!(to_read(9, &Together::from([(SourceId(1), 100), (SourceId(2), 7)])), 900);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled_and_no_request_is_larger_than_it_may_be(
            due in prop::collection::vec((0_i64..4, 0_i64..100), 0..60), by in 0_i64..100,
            sizes in prop::collection::btree_map((0_i64..4).prop_map(SourceId), 1_u32..9, 0..4),
        ) {
            let mut due = due;
            due.sort_by_key(|(_, at)| *at);
            let together: Together = sizes;
            let packed = pack(due.clone(), at(by), &together);
            let mut all: Vec<_> = packed.iter().flatten().copied().collect();
            let mut expected = due.clone();
            all.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
            for request in &packed {
                let most = together.get(&request[0].offered().source).copied().unwrap_or(1) as usize;
                prop_assert!(request.len() <= most);
                prop_assert!(request.iter().all(|one| one.0 == request[0].0));
                prop_assert!(request.len() == 1 || request.iter().all(|one| one.1 <= by));
            }
            prop_assert!(packed.windows(2).all(|pair| pair[0][0].1 <= pair[1][0].1), "in the order of their first");
        }
    }
}
