//go:build lab

package dm_test

import (
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/workers/dm"
)

func numberOf(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return dm.Device{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}.Number()
}

// TestRealSwapUnderReader: a reader of a linear device never sees an error before the table is swapped to error, only errors after, and data
// again once it is linear again.
func TestRealSwapUnderReader(t *testing.T) {
	const disk, sectors = "/dev/vda", 1 << 16
	linear := []dm.Target{dm.Linear(0, sectors, numberOf(t, disk), 0)}
	if err := dm.Create("ce-test", "CE-test-1", linear); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dm.Remove("ce-test"); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(dm.Path("ce-test")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the node is still there: %v", err)
		}
	})
	if err := dm.Create("ce-test", "CE-test-1", linear); !errors.Is(err, unix.EBUSY) {
		t.Errorf("created twice: %v", err)
	}
	f, err := os.OpenFile(dm.Path("ce-test"), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := dm.Remove("ce-test"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("removed while open: %v", err)
	}
	var mu sync.Mutex
	var good, bad int
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		buf, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return
		}
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, err := f.ReadAt(buf, 4096)
			mu.Lock()
			if err == nil {
				good++
			} else {
				bad++
			}
			mu.Unlock()
		}
	}()
	counts := func() (int, int) { mu.Lock(); defer mu.Unlock(); return good, bad }
	more := func(what string, of func() int, than int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); of() <= than; {
			if time.Now().After(end) {
				t.Fatalf("no %s read any more", what)
			}
			time.Sleep(time.Millisecond)
		}
	}
	goods, bads := func() int { g, _ := counts(); return g }, func() int { _, b := counts(); return b }
	more("good", goods, 50)
	if b := bads(); b != 0 {
		t.Fatalf("%d errors on a linear device", b)
	}
	began := time.Now()
	if err := dm.Reload("ce-test", []dm.Target{dm.Error(0, sectors)}); err != nil {
		t.Fatal(err)
	}
	t.Logf("swap took %v", time.Since(began))
	g, _ := counts() // a read that had begun before may be counted a moment later
	more("bad", bads, 50)
	if now := goods(); now > g+1 {
		t.Errorf("%d reads succeeded on an error table", now-g)
	}
	if err := dm.Reload("ce-test", linear); err != nil {
		t.Fatal(err)
	}
	more("good", goods, goods()+50)
	close(stop)
	<-ended
	d, err := dm.Get("ce-test")
	if err != nil {
		t.Fatal(err)
	}
	if d.UUID != "CE-test-1" || d.Suspended || d.Pending || len(d.Table) != 1 || d.Table[0] != linear[0] || d.Open != 1 {
		t.Errorf("got %+v", d)
	}
}

// TestRealSuspended: a suspended device holds I/O back, and what waited meets the new table.
func TestRealSuspended(t *testing.T) {
	const sectors = 2048
	if err := dm.Create("ce-hold", "CE-hold", []dm.Target{dm.Linear(0, sectors, numberOf(t, "/dev/vda"), 0)}); err != nil {
		t.Fatal(err)
	}
	if err := dm.Suspend("ce-hold"); err != nil {
		t.Fatal(err)
	}
	all, err := dm.List()
	if err != nil || len(all) != 1 || !all[0].Suspended {
		t.Errorf("list: %+v, %v", all, err)
	}
	done := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(dm.Path("ce-hold"), os.O_RDWR, 0)
		if err == nil {
			_, err = io.ReadFull(f, make([]byte, 512))
			f.Close()
		}
		done <- err
	}()
	if err := dm.Reload("ce-hold", []dm.Target{dm.Error(0, sectors)}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("a read of an error table succeeded")
	}
	if err := dm.Remove("ce-hold"); err != nil {
		t.Error(err)
	}
	if all, err := dm.List(); err != nil || len(all) != 0 {
		t.Errorf("list: %+v, %v", all, err)
	}
}
