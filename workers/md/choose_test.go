package md

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

var wanted = Wanted{UUID: arrayID, RaidDisks: 4, Copies: 2, ChunkKiB: 64, MinEvents: 10}

// leg gives a healthy member of wanted.
func leg(slot int, events uint64, change ...func(*Super)) Candidate {
	s := &Super{UUID: arrayID, Level: 10, Layout: 258, ChunkKiB: 64, RaidDisks: 4, Events: events, DevNumber: slot, Roles: []uint16{0, 1, 2, 3, roleFaulty}}
	for _, c := range change {
		c(s)
	}
	return Candidate{Slot: slot, Dev: fmt.Sprintf("sd%c", 'a'+slot), Super: s}
}

// fresh gives a disk that is to follow the leg in slot 0, or has followed it.
func fresh(number int, events uint64, change ...func(*Super)) Candidate {
	c := leg(0, events, append([]func(*Super){func(s *Super) { s.DevNumber = number }, sees(number, 0)}, change...)...)
	c.Dev = fmt.Sprintf("sd%c", 'a'+number)
	return c
}

var (
	knows = sees(4, 0)          // the disk with number 4 in slot 0
	gone  = sees(0, roleFaulty) // the leg in slot 0
)

func filling(s *Super) { s.Features |= featureReplacement | featureRecovery }
func full(s *Super)    { s.Features |= featureReplacement }

func sees(number int, role uint16) func(*Super) {
	return func(s *Super) {
		s.Roles = slices.Clone(s.Roles)
		for len(s.Roles) <= number {
			s.Roles = append(s.Roles, roleFaulty)
		}
		s.Roles[number] = role
	}
}

func TestChoose(t *testing.T) {
	foreign := func(s *Super) { s.UUID = "ff112233-4455-6677-8899-aabbccddeeff" }
	recovering := func(s *Super) { s.Features |= featureRecovery }
	for _, x := range []struct {
		name    string
		legs    []Candidate
		members string // slots
		refused string
	}{
		{"all", []Candidate{leg(0, 12), leg(1, 12), leg(2, 12), leg(3, 12)}, "0123", ""},
		{"half", []Candidate{leg(1, 12), leg(2, 12)}, "12", ""},
		{"a set is missing", []Candidate{leg(0, 12), leg(1, 12)}, "", "no complete copy of set 1"},
		{"nothing", nil, "", "no leg"},
		{"blank ones only", []Candidate{{Slot: 0, Dev: "sda"}}, "", "no leg"},
		{"older than known", []Candidate{leg(0, 9), leg(1, 9), leg(2, 9), leg(3, 9)}, "", "event count 9: 10 was seen"},
		{"a crash between two writes", []Candidate{leg(0, 12), leg(1, 13), leg(2, 13), leg(3, 12)}, "0123", ""},
		{"one is older", []Candidate{leg(0, 12), leg(1, 14, sees(0, roleFaulty)), leg(2, 14), leg(3, 14)}, "123", ""},
		{"one is a bit older, and was failed", []Candidate{leg(0, 13), leg(1, 14, sees(0, roleFaulty)), leg(2, 14, sees(0, roleFaulty))}, "12", ""},
		{"a foreign one", []Candidate{leg(0, 12, foreign), leg(1, 12), leg(2, 12), leg(3, 12)}, "123", ""},
		{"a foreign one that is needed", []Candidate{leg(0, 12, foreign), leg(2, 12), leg(3, 12)}, "", "no complete copy of set 0"},
		{"a blank one", []Candidate{{Slot: 0, Dev: "sda"}, leg(1, 12), leg(2, 12), leg(3, 12)}, "123", ""},
		{"a recovering one", []Candidate{leg(0, 12, recovering), leg(1, 12), leg(2, 12)}, "012", ""},
		{"only a recovering one", []Candidate{leg(0, 12, recovering), leg(2, 12)}, "", "no complete copy of set 0"},
		{"another slot", []Candidate{leg(0, 12, func(s *Super) { s.DevNumber = 1 }), leg(2, 12)}, "", "says that it is in slot 1"},
		{"a spare", []Candidate{leg(0, 12, sees(0, roleSpare)), leg(1, 12), leg(2, 12)}, "12", ""},
		{"another geometry", []Candidate{leg(0, 12, func(s *Super) { s.Layout = 259 }), leg(1, 12), leg(2, 12)}, "", "another array than is wanted"},
		{"a split", []Candidate{leg(0, 45, sees(1, roleFaulty)), leg(1, 37, sees(0, roleFaulty)), leg(2, 45, sees(1, roleFaulty)), leg(3, 37, sees(0, roleFaulty))}, "",
			"each say that the other failed"},
		{"a leg and what is filled in its place", []Candidate{leg(0, 12, knows), fresh(4, 12, filling), leg(1, 12), leg(2, 12)}, "0012", ""},
		{"what is filled, alone in its set", []Candidate{fresh(4, 12, filling), leg(2, 12, knows)}, "", "no complete copy of set 0"},
		{"what is filled, without its leg", []Candidate{fresh(4, 12, filling), leg(1, 12, knows), leg(2, 12)}, "12", ""},
		{"what is filled, and is older", []Candidate{leg(0, 12, knows), fresh(4, 10, filling), leg(1, 12), leg(2, 12)}, "012", ""},
		{"what is filled, and the freshest does not know", []Candidate{leg(0, 13), fresh(4, 12, filling), leg(1, 13), leg(2, 13)}, "012", ""},
		{"what is filled for another slot", []Candidate{leg(0, 12, sees(4, 2)), fresh(4, 12, filling, sees(4, 2)), leg(1, 12), leg(2, 12)}, "012", ""},
		{"what is full, and its leg is failed", []Candidate{leg(0, 12, knows), fresh(4, 13, full, gone), leg(1, 13, knows, gone), leg(2, 13)}, "012", ""},
		{"what is full, and only it says so", []Candidate{leg(0, 12, knows), fresh(4, 13, full, gone), leg(1, 12, knows), leg(2, 12)}, "012", ""},
		{"what has followed, alone in its set", []Candidate{fresh(4, 14, gone), leg(2, 14, knows, gone)}, "02", ""},
		{"two with the data of one slot", []Candidate{leg(0, 12, knows), fresh(4, 12), leg(1, 12), leg(2, 12)}, "", "both are leg 0"},
		{"two that are filled for one slot", []Candidate{leg(0, 12, knows, sees(5, 0)), fresh(4, 12, filling), fresh(5, 12, filling), leg(2, 12)}, "", "both are leg 0"},
		{"a leg that was alone, and was followed", []Candidate{leg(0, 12, sees(1, roleFaulty), knows), fresh(4, 20, gone, sees(1, roleFaulty)), leg(2, 20, gone, knows)}, "02", ""},
		{"a leg that was alone, and was not followed", []Candidate{leg(0, 12, sees(1, roleFaulty)), fresh(4, 20, gone, sees(1, roleFaulty)), leg(2, 20, gone, knows)}, "",
			"each say that the other failed"},
		{"one that was failed twice in turns", []Candidate{leg(0, 50, sees(1, roleFaulty)), leg(1, 30, sees(2, roleFaulty)), leg(2, 50, sees(1, roleFaulty)),
			leg(3, 50, sees(1, roleFaulty))}, "023", ""},
	} {
		members, _, err := Choose(wanted, x.legs)
		got := ""
		for _, m := range members {
			got += fmt.Sprint(m.Slot)
		}
		if got != x.members || (err == nil) != (x.refused == "") || err != nil && !strings.Contains(err.Error(), x.refused) {
			t.Errorf("%s: members %q, %v", x.name, got, err)
		}
	}
}
