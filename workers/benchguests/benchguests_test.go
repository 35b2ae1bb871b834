package benchguests

import "testing"

// TestBothSidesSayTheSame: as many bytes, and there is something to measure.
func TestBothSidesSayTheSame(t *testing.T) {
	for _, l := range lines() {
		ours, raw, err := l.made()
		if err != nil {
			t.Fatalf("%s: %v", l.id, err)
		}
		for _, s := range []side{ours, raw} {
			if err := s(); err != nil {
				t.Errorf("%s: %v", l.id, err)
			}
		}
	}
}
