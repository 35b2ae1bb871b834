package md

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sysfsTree writes files below a root.
func sysfsTree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, "sys/block", name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestList(t *testing.T) {
	root := sysfsTree(t, map[string]string{
		"md0/dev": "9:0", "md0/size": "131072", "md0/md/array_state": "clean", "md0/md/level": "raid10", "md0/md/raid_disks": "4", "md0/md/layout": "258",
		"md0/md/chunk_size": "65536", "md0/md/degraded": "2", "md0/md/sync_action": "recover", "md0/md/sync_completed": "100 / 400",
		"md0/md/uuid": arrayID, "md0/holders/dm-0/x": "",
		"md0/md/dev-sda/state": "in_sync,failfast", "md0/md/dev-sda/slot": "0",
		"md0/md/dev-sdb/state": "faulty", "md0/md/dev-sdb/slot": "none",
		"md0/md/dev-sdc/state": "failfast", "md0/md/dev-sdc/slot": "2",
		"md0/md/dev-sdd/state": "in_sync", "md0/md/dev-sdd/slot": "3",
		"md1/dev": "9:1", "md1/size": "0", "md1/md/array_state": "clear", "md1/md/level": "", "md1/md/raid_disks": "0",
		"md2/dev": "9:2", "md2/size": "0", "md2/md/array_state": "inactive", "md2/md/level": "", "md2/md/raid_disks": "0",
		"md2/md/uuid": "00000000-0000-0000-0000-000000000000", "sda/size": "1",
	})
	all, err := List(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[1].Name != "md2" || all[1].UUID != "" || all[1].Serves() {
		t.Fatalf("got %+v", all)
	}
	a := all[0]
	if a.DevNo != "9:0" || a.UUID != arrayID || !a.Serves() || a.RaidDisks != 4 || a.Copies() != 2 || a.ChunkKiB != 64 || a.Sectors != 131072 || a.Degraded != 2 ||
		a.SyncAction != "recover" || a.SyncDone != 250 || len(a.Members) != 4 || len(a.Holders) != 1 {
		t.Errorf("got %+v", a)
	}
	if a.InSlot(1) != nil || a.InSlot(2).Dev != "sdc" || a.Spare(0) || a.Spare(3) || !a.Spare(2) || !a.Spare(1) || a.Of("sdb") == nil || a.Of("sdx") != nil {
		t.Errorf("its members: %+v", a.Members)
	}
}

func TestArguments(t *testing.T) {
	s := Spec{Wanted: wanted, Name: strings.Repeat("n", 40), LegKiB: 32768, OffsetKiB: 16384, Devs: []string{"sda", "sdb", "sdc", "sdd"}}
	got := strings.Join(s.Arguments("/dev/md3"), " ")
	for _, want := range []string{
		"--create /dev/md3 --run", "--layout=n2 --raid-devices=4 --chunk=64K --size=32768K --data-offset=16384K", "--bitmap-chunk=1024K --failfast",
		"--uuid=00112233445566778899aabbccddeeff --name=" + strings.Repeat("n", 24) + " ", "/dev/sda /dev/sdb /dev/sdc /dev/sdd",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
	if strings.Contains(got, "assume-clean") {
		t.Error("legs with unknown content are taken as equal")
	}
	s.LegKiB = 20 << 30 // 20 TiB
	if c := s.BitmapChunkKiB(); s.LegKiB*2/c > mostBits || c&(c-1) != 0 {
		t.Errorf("bitmap chunk of large legs: %d KiB", c)
	}
}
