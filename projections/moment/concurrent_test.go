package moment_test

import (
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"cloudengine/projections"
	"cloudengine/projections/moment"
)

// TestManyAskWhileSnapshotsAreMade: moments are asked for from several goroutines while snapshots are made and one of their files is
// damaged: each answer is right, or says that it is not ready.
func TestManyAskWhileSnapshotsAreMade(t *testing.T) {
	log, dir := chain(12, 1800), t.TempDir()
	all := log.Recorded()
	memory := projections.NewMemory()
	want := map[uint64][32]byte{}
	for i := range all {
		if err := memory.Apply(&all[i]); err != nil {
			t.Fatal(err)
		}
		if i%41 == 0 {
			want[all[i].Number] = sha256.Sum256([]byte(folded(t, memory)))
		}
	}
	k, _ := keep(t, dir, log, "v")
	var group sync.WaitGroup
	answered := make([]int, 6)
	for g := range answered {
		group.Go(func() {
			choose := rand.New(rand.NewPCG(uint64(g), 1)).IntN
			for range 9 {
				number := uint64(1 + 41*choose((len(all)-1)/41+1))
				m, err := k.Moment(t.Context(), number)
				text := ""
				if err == nil {
					text, err = rowsAt(m)
				}
				switch {
				case errors.Is(err, moment.ErrNotYet):
				case err != nil:
					t.Errorf("at %d: %v", number, err)
				case sha256.Sum256([]byte(text)) != want[number]:
					t.Errorf("at %d: other rows", number)
				default:
					answered[g]++
				}
			}
		})
	}
	asked := make(chan struct{})
	go func() { group.Wait(); close(asked) }()
	harmed := false
	for done := false; !done; {
		if _, err := k.Make(t.Context()); err != nil && !errors.Is(err, moment.ErrNotYet) {
			t.Error(err)
		}
		if names := files(t, dir); !harmed && len(names) > 3 {
			harmed = true
			harm(t, names[0])
		}
		select {
		case <-asked:
			done = true
		case <-time.After(time.Millisecond):
		}
	}
	sum := 0
	for _, n := range answered {
		sum += n
	}
	if sum < 15 {
		t.Errorf("only %d answers", sum)
	}
}

func harm(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(make([]byte, 4096), 64)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Error(err)
	}
}
