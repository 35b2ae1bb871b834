package build

// This file is what the storage chain needs in the image: the kernel's target, initiators, mirrors and device mapper, and the few programs
// whose formats are not worth a second implementation (mdadm, lvm, open-iscsi).
//
// Left out on purpose: udev with its rules, and all that assembles, activates or logs in by itself (mdmon, dmeventd, lvmpolld, multipathd,
// iscsi's own boot scripts). A disk of a storage machine may belong to somebody who is alive elsewhere: only what an agent or a person
// names is touched.

// storagePrograms are called by the storage workers, by package.
var storagePrograms = map[string][]string{
	"mdadm":      {"/sbin/mdadm"},
	"lvm2":       {"/sbin/lvm"},
	"open-iscsi": {"/sbin/iscsid", "/sbin/iscsiadm"},
}

// storageModules are loaded by name by the storage workers, or by coldplug for the disks that are there. The kernel's own requests for
// modules are not answered in the image, so what is asked for by an algorithm's or a discipline's name is listed too (crc32 by rxe,
// crc32c by iSCSI and libcrc32c, the path selectors by dm-multipath, the handler by SCSI, the backstores by the target).
var storageModules = []string{
	"crc32_generic", "crc32-pclmul", "crc32c_generic", "crc32c-intel", "crct10dif-pclmul", "crct10dif_generic",
	"configfs", "target_core_mod", "target_core_iblock", "target_core_file", "iscsi_target_mod", "ib_srpt", "tcm_loop",
	"rdma_rxe", "rdma_cm", "ib_cm", "ib_srp", "scsi_transport_srp", "iscsi_tcp", "libiscsi", "scsi_transport_iscsi",
	"sd_mod", "sg", "scsi_dh_alua",
	"dm-mod", "dm-multipath", "dm-service-time", "dm-round-robin", "md-mod", "raid1", "raid10",
	"virtio_blk", "nvme", "ahci", "mpt3sas", "megaraid_sas",
}

// storageDirectories: the target keeps persistent reservations in /var/target/pr and fails every one without it; the others are where the
// programs put locks and records.
var storageDirectories = map[string]uint64{
	"etc/iscsi": 0o755, "etc/lvm": 0o755, "etc/mdadm": 0o755, "run/lock/iscsi": 0o755, "run/lock/lvm": 0o755, "run/lvm": 0o755,
	"run/mdadm": 0o755, "var/target/pr": 0o755,
}

// storageTexts are for a person at the console; the agents give each call its whole configuration.
var storageTexts = map[string]string{
	"etc/lvm/lvm.conf":     lvmConf,
	"etc/mdadm/mdadm.conf": "# Nothing is assembled that a command does not name with its members (mdadm.conf(5)).\nAUTO -all\n",
}

// lvmConf refuses every device but those that a command names with --devices, which overrides the filters (lvm.conf(5), lvm(8)).
const lvmConf = `# Nothing is scanned or activated that a command does not name: use --devices.
devices {
	dir = "/dev"
	scan = [ "/dev" ]
	obtain_device_list_from_udev = 0
	external_device_info_source = "none"
	use_devicesfile = 0
	filter = [ "r|.*|" ]
	global_filter = [ "r|.*|" ]
	scan_lvs = 0
}
global {
	event_activation = 0
	locking_dir = "/run/lock/lvm"
	use_lvmlockd = 0
	use_lvmpolld = 0
	system_id_source = "none"
}
activation {
	auto_activation_volume_list = []
	monitoring = 0
	udev_rules = 0
	udev_sync = 0
}
backup {
	archive = 0
	backup = 0
}
`
