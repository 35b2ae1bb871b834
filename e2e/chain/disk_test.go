package chain

import (
	"errors"
	"testing"
	"time"
)

func TestParseReadsWhatTheGuestSays(t *testing.T) {
	w, err := Parse("guest: disk xvda holds=17\r\nguest: disk xvda writes=20 errors=0 bad=0 longest_ms=800\r\n" +
		"guest: tick 3\r\nguest: disk xvda writes=25 errors=0 bad=0 longest_ms=7000\r\nguest: disk xvda writes=60 errors=0 bad=0 longest_ms=90\r\n")
	if err != nil || w.Holds != 17 || w.Writes != 60 || len(w.Longest) != 3 {
		t.Fatalf("read %+v, %v", w, err)
	}
	for since, want := range map[int]time.Duration{0: 7 * time.Second, 20: 7 * time.Second, 25: 90 * time.Millisecond, 60: 0} {
		if got := w.Since(Written{Writes: since}); got != want {
			t.Errorf("since %d writes: %s, want %s", since, got, want)
		}
	}
}

func TestParseFindsWhatADiskLost(t *testing.T) {
	for _, said := range []string{"writes=5 errors=1 bad=0", "writes=5 errors=0 bad=2"} {
		if _, err := Parse("guest: disk xvda " + said + " longest_ms=3\n"); !errors.Is(err, ErrDiskFailed) {
			t.Errorf("%s: %v", said, err)
		}
	}
	if w, err := Parse("guest: I am\n"); err != nil || len(w.Longest) != 0 {
		t.Errorf("nothing said yet: %+v, %v", w, err)
	}
}
