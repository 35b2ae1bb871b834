package commands

import "maps"

func init() { maps.Copy(inverses, networkInverses) }

// networkInverses are the rules for verbs of networks.
var networkInverses = map[string]inverse{
	"network.create": created("delete"),
	"network.delete": never("a deleted network had no NICs: create it again under its name, with another id"),
	"subnet.create":  created("delete"),
	"subnet.delete":  never("a deleted subnet had no addresses that were taken: create it again under its name, with another id"),
	"subnet.reserve": undoAddress("release", "it is reserved since then, unless a NIC has it"),
	"subnet.release": undoAddress("reserve", "it was reserved before, unless a NIC has it"),
	"nic.create":     created("delete"),
	"nic.limit":      undoLimits("in_bps", "out_bps"),
	"nic.delete":     never("\"cloudengine nic show ID --at\" with the number before tells its MAC and its addresses: create it again with them, as long as nobody else has them"),
}

// undoAddress gives the opposite for the same address.
func undoAddress(verb, note string) inverse {
	return func(u Undoing) ([]Step, string) {
		args, ok := argsOf(u)
		if !ok || args["address"] == nil {
			return nil, u.gone()
		}
		return []Step{u.step(verb, note, map[string]any{"address": args["address"]})}, ""
	}
}
