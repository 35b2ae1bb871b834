package storage_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"cloudengine/events"
	"cloudengine/events/desired"
	"cloudengine/workers"
	"cloudengine/workers/lio"
	"cloudengine/workers/storage"
)

// member gives a disk of 1 MiB with a superblock of an array, and data that begins at 512 KiB.
func member(t *testing.T, a events.ArrayID) string {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(string(a), "-", ""))
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<20)
	copy(b[4096:], "\xfc\x4e\x2b\xa9\x01\x00\x00\x00")
	copy(b[4096+16:], raw)
	binary.LittleEndian.PutUint64(b[4096+128:], 1024)
	copy(b[512<<10+512:], "LABELONE")
	copy(b[1<<20-512:], "EFI PART")
	return string(b)
}

func wipes(plans []workers.Plan) (out []workers.Step) {
	for _, p := range plans {
		for _, s := range p.Steps {
			if s.Kind == storage.StepWipe {
				out = append(out, s)
			}
		}
	}
	return out
}

func (r *rig) wantWipe(t *testing.T, serial, state string) {
	t.Helper()
	x, ok := r.export(t, serial)
	if !ok || x.State != state || x.Array != array || len(x.To) > 0 {
		t.Fatalf("it reports %+v, want %s of array %s", x, state, array)
	}
}

// TestADeletedArraysDiskIsWiped: after everybody was shut out, and then it is blank.
func TestADeletedArraysDiskIsWiped(t *testing.T) {
	root := machine(t, 1)
	write(t, root+"/dev/vda", member(t, array))
	r := newRig(root, t.TempDir(), lio.ISCSI)
	r.say(1, "d0", desired.Export{Epoch: epoch(1), Want: desired.There}, p1)
	r.settle(t)
	r.say(2, "d0", desired.Export{Epoch: epoch(1), Want: desired.Wiped})
	if w := wipes(r.worker.Plan(r.docs, r.observe(t))); len(w) > 0 {
		t.Fatalf("it is wiped while it is exported: %v", w)
	}
	if x, _ := r.export(t, "d0"); x.State != events.ExportThere {
		t.Errorf("while it is exported it reports %+v", x)
	}
	for len(wipes(r.worker.Plan(r.docs, r.observe(t)))) == 0 {
		if planned, err := r.pass(t); err != nil || !planned {
			t.Fatalf("it is not wiped, %v", err)
		}
	}
	r.wantWipe(t, "d0", events.ExportWiping)
	r.settle(t)
	r.wantWipe(t, "d0", events.ExportWiped)
	if b, err := os.ReadFile(root + "/dev/vda"); err != nil || len(bytes.Trim(b, "\x00")) > 0 {
		t.Errorf("something is left on the disk, %v", err)
	}
	r.say(3, "d0", desired.Export{Epoch: epoch(1), Want: desired.Absent})
	r.settle(t)
	r.wantExport(t, "d0", events.ExportAbsent, 1)
}

// TestWhatIsNotTheArraysIsLeftAlone: another array, a file system, and a disk that cannot be read.
func TestWhatIsNotTheArraysIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct{ content, state string }{
		"another array": {member(t, array2), events.ExportForeign},
		"file system":   {"XFSB" + strings.Repeat("\x00", 1<<20-4), events.ExportForeign},
		"blank":         {strings.Repeat("\x00", 1<<20), events.ExportWiped},
		"unreadable":    {"", events.ExportFailed},
	} {
		t.Run(name, func(t *testing.T) {
			root := machine(t, 1)
			if write(t, root+"/dev/vda", c.content); c.content == "" {
				if err := os.Remove(root + "/dev/vda"); err != nil {
					t.Fatal(err)
				}
			}
			r := newRig(root, t.TempDir(), lio.ISCSI)
			r.say(1, "d0", desired.Export{Epoch: epoch(1), Want: desired.Wiped})
			r.settle(t)
			r.wantWipe(t, "d0", c.state)
			if b, _ := os.ReadFile(root + "/dev/vda"); string(b) != c.content {
				t.Error("it was written")
			}
		})
	}
}

// TestAWipeIsRefused: by documents that cannot be obeyed, and by what has changed since it was planned.
func TestAWipeIsRefused(t *testing.T) {
	root := machine(t, 1)
	write(t, root+"/dev/vda", member(t, array))
	run := t.TempDir()
	r := newRig(root, run, lio.ISCSI)
	r.say(1, "d0", desired.Export{Epoch: epoch(2), Want: desired.There}, p1)
	r.settle(t)
	r.say(2, "d0", desired.Export{Epoch: epoch(2), Want: desired.Absent})
	r.settle(t)
	refused := func(what string, e desired.Export, to ...events.MachineID) {
		t.Helper()
		r.say(3, "d0", e, to...)
		if w := wipes(r.worker.Plan(r.docs, r.observe(t))); len(w) > 0 {
			t.Errorf("%s: %v", what, w)
		}
	}
	refused("of an earlier owner", desired.Export{Epoch: epoch(1), Want: desired.Wiped})
	refused("of another array", desired.Export{Array: array2, Epoch: epoch(9), Want: desired.Wiped})
	refused("given to somebody", desired.Export{Epoch: epoch(2), Want: desired.Wiped}, p1)
	r.say(4, "d0", desired.Export{Epoch: epoch(2), Want: desired.Wiped})
	planned := wipes(r.worker.Plan(r.docs, r.observe(t)))
	if len(planned) != 1 {
		t.Fatalf("planned is %v", planned)
	}
	late := func(what string) {
		t.Helper()
		before, _ := os.ReadFile(root + "/dev/vda")
		if err := r.worker.Apply(t.Context(), planned[0]); err == nil {
			t.Errorf("%s: it is wiped", what)
		}
		if after, _ := os.ReadFile(root + "/dev/vda"); !bytes.Equal(before, after) {
			t.Errorf("%s: it was written", what)
		}
	}
	r.say(5, "d0", desired.Export{Epoch: epoch(2), Want: desired.There}, p1)
	r.settle(t)
	late("exported again")
	r.say(6, "d0", desired.Export{Epoch: epoch(2), Want: desired.Absent})
	r.settle(t)
	write(t, root+"/dev/vda", member(t, array2))
	late("another array's")
	write(t, root+"/dev/vda", member(t, array))
	write(t, root+"/sys/block/vda/dev", "254:7\n")
	late("another disk")
	write(t, root+"/sys/block/vda/dev", "254:0\n")
	r.say(7, "d0", desired.Export{Epoch: epoch(2), Want: desired.Wiped})
	if err := r.worker.Apply(t.Context(), planned[0]); err != nil {
		t.Error(err)
	}
	r.wantWipe(t, "d0", events.ExportWiped)
}

// TestAWipeThatIsCutOffIsSeen: at whatever write it ends, the disk is still known as the array's, or is blank.
func TestAWipeThatIsCutOffIsSeen(t *testing.T) {
	whole := []byte(member(t, array))
	for n := range 8 {
		d := &cutDisk{b: bytes.Clone(whole), writes: n}
		err := storage.WipeMember(t.Context(), d, int64(len(d.b)), array)
		s, readErr := storage.ReadSignature(bytes.NewReader(d.b), int64(len(d.b)))
		if readErr != nil || err != nil && s.Array == "" || err == nil && len(bytes.Trim(d.b, "\x00")) > 0 {
			t.Errorf("after %d writes: %v, signature %+v, %v", n, err, s, readErr)
		}
	}
}

// cutDisk takes so many writes.
type cutDisk struct {
	b      []byte
	writes int
}

func (d *cutDisk) ReadAt(p []byte, offset int64) (int, error) {
	return bytes.NewReader(d.b).ReadAt(p, offset)
}
func (d *cutDisk) Sync() error { return nil }
func (d *cutDisk) WriteAt(p []byte, offset int64) (int, error) {
	if d.writes--; d.writes < 0 {
		return 0, errors.New("cut off")
	}
	return copy(d.b[offset:], p), nil
}
