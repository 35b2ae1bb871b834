//go:build lab

package throttle_test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cloudengine/events"
	"cloudengine/workers/dm"
	"cloudengine/workers/throttle"
)

const (
	mib     = 1 << 20
	name    = "ce-limited"
	sectors = 48 << 11 // 48 MiB
)

// device makes a linear device over the lab's disk, as volumes have, and gives its number.
func device(t *testing.T) string {
	t.Helper()
	if err := dm.Create(name, "CE-test-limited", table(t)); err != nil {
		t.Fatal(err)
	}
	d, err := dm.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	return d.Number()
}

func table(t *testing.T) []dm.Target {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/dev/vda", &st); err != nil {
		t.Fatal(err)
	}
	return []dm.Target{dm.Linear(0, sectors, dm.Device{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}.Number(), 0)}
}

func kernel(t *testing.T) *throttle.Kernel {
	t.Helper()
	k, err := throttle.Open("/tmp/blkio")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func set(t *testing.T, k *throttle.Kernel, number string, l events.DiskLimits) {
	t.Helper()
	if err := k.Set(t.Context(), number, l); err != nil {
		t.Fatal(err)
	}
	got, err := k.Limits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got[number] != l {
		t.Fatalf("the kernel has %+v, want %+v", got[number], l)
	}
}

// stream writes or reads blocks of so many bytes past the page cache until it is closed.
type stream struct {
	f   *os.File
	buf []byte
	do  func(int, []byte, int64) (int, error)
	at  int64
}

func open(t *testing.T, block int, do func(int, []byte, int64) (int, error)) *stream {
	t.Helper()
	f, err := os.OpenFile(dm.Path(name), os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	buf, err := unix.Mmap(-1, 0, block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); _ = unix.Munmap(buf) })
	return &stream{f: f, buf: buf, do: do}
}

// rate gives bytes and requests per second over a time.
func (s *stream) rate(t *testing.T, over time.Duration) (bps, iops float64) {
	t.Helper()
	began, n := time.Now(), 0
	for time.Since(began) < over {
		if _, err := s.do(int(s.f.Fd()), s.buf, s.at); err != nil {
			t.Fatal(err)
		}
		n++
		s.at = (s.at + int64(len(s.buf))) % (sectors * dm.SectorSize)
	}
	took := time.Since(began).Seconds()
	return float64(n*len(s.buf)) / took, float64(n) / took
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	t.Logf("%s: %.0f a second, limit %.0f (%+.1f %%)", what, got, want, (got/want-1)*100)
	if got > want*1.1 || got < want*0.8 {
		t.Errorf("%s: %.0f a second, want %.0f", what, got, want)
	}
}

// TestRealRates: what is written and read is what the limits allow, after a change and after a swap of the table while it is written too; without
// limits it is more; a device that comes again has none.
func TestRealRates(t *testing.T) {
	k, number := kernel(t), device(t)
	t.Cleanup(func() {
		if err := dm.Remove(name); err != nil {
			t.Error(err)
		}
	})
	write, read := open(t, 64<<10, unix.Pwrite), open(t, 64<<10, unix.Pread)
	free, _ := write.rate(t, time.Second)
	t.Logf("without a limit: %.1f MiB/s", free/mib)
	if free < 12*mib {
		t.Fatalf("the disk writes %.1f MiB/s: too slow to show anything", free/mib)
	}
	set(t, k, number, events.DiskLimits{WriteBPS: 4 * mib, ReadBPS: 6 * mib})
	bps, _ := write.rate(t, 4*time.Second)
	near(t, "written, bytes", bps, 4*mib)
	bps, _ = read.rate(t, 4*time.Second)
	near(t, "read, bytes", bps, 6*mib)

	changed := make(chan error, 1)
	time.AfterFunc(time.Second, func() { changed <- k.Set(t.Context(), number, events.DiskLimits{WriteBPS: 8 * mib}) })
	write.rate(t, 1100*time.Millisecond)
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	bps, _ = write.rate(t, 4*time.Second)
	near(t, "written after a change, bytes", bps, 8*mib)
	time.AfterFunc(time.Second, func() { changed <- dm.Swap(name, table(t)) })
	bps, _ = write.rate(t, 4*time.Second)
	near(t, "written while the table is swapped, bytes", bps, 8*mib)
	if err := <-changed; err != nil {
		t.Fatal(err)
	}

	set(t, k, number, events.DiskLimits{WriteIOPS: 50, ReadIOPS: 80})
	small := open(t, 4<<10, unix.Pwrite)
	_, iops := small.rate(t, 4*time.Second)
	near(t, "written, requests", iops, 50)
	small = open(t, 4<<10, unix.Pread)
	_, iops = small.rate(t, 4*time.Second)
	near(t, "read, requests", iops, 80)
	set(t, k, number, events.DiskLimits{})
	if bps, _ = write.rate(t, time.Second); bps < free/3 {
		t.Errorf("without limits again: %.1f MiB/s, was %.1f", bps/mib, free/mib)
	}
}

// TestRealComesAgain: a limit ends with its device.
func TestRealComesAgain(t *testing.T) {
	k := kernel(t)
	for range 2 {
		number := device(t)
		all, err := k.Limits(t.Context())
		if err != nil || len(all) != 0 {
			t.Fatalf("a new device has limits %v, %v", all, err)
		}
		set(t, k, number, events.DiskLimits{WriteBPS: mib, ReadIOPS: 10})
		if err := dm.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := k.Set(t.Context(), number, events.DiskLimits{}); err == nil {
			t.Error("a device that is gone was limited")
		}
	}
}

// TestRealLifted: requests that wait in the throttle go on at once when the limit is taken away.
func TestRealLifted(t *testing.T) {
	k, number := kernel(t), device(t)
	t.Cleanup(func() {
		if err := dm.Remove(name); err != nil {
			t.Error(err)
		}
	})
	set(t, k, number, events.DiskLimits{WriteBPS: mib})
	w := open(t, 16*mib, unix.Pwrite)
	lifted := make(chan error, 1)
	began := time.Now()
	time.AfterFunc(time.Second, func() { lifted <- k.Set(t.Context(), number, events.DiskLimits{}) })
	if _, err := unix.Pwrite(int(w.f.Fd()), w.buf, 0); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if err := <-lifted; err != nil {
		t.Fatal(err)
	}
	t.Logf("16 MiB at 1 MiB/s, lifted after 1 s: %s", took)
	if took < time.Second || took > 8*time.Second {
		t.Errorf("16 MiB took %s: want a little over a second", took)
	}
}
